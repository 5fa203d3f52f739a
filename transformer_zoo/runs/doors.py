"""What all doors do: open a run by whatever name, take one text or many."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from tqdm import tqdm

from transformer_zoo.config import BeamSearch, Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.runs.load import EncoderRun, R, Run, TextRun, load_run
from transformer_zoo.training.device import choose_device
from transformer_zoo.words import unfit

A = TypeVar("A")
H = TypeVar("H", bound=Sampling | BeamSearch)
Source = str | Path | Run | TextRun | EncoderRun
"""A run, or where one is, as `load_run` takes it."""
Texts = list[str] | tuple[str, ...]
Stream = Iterator[str]
_SECONDS = 3.0  # what takes longer shows a bar


def opened(source: Source, device: str | None, door: str, *kinds: type[R]) -> R:
    """The run of one of these kinds, on the device; None: the GPU if there is one.

    Raises:
        UserError: there is none, or it is of another kind: which door is its own.
    """
    if isinstance(source, str | Path):
        run = load_run(source, device=choose_device(device or "auto"))
        name = str(source)
    elif not isinstance(source, Run | TextRun | EncoderRun):
        raise UserError(f"{door} takes a run, its folder or a name, not {type(source).__name__}")
    elif device is not None:
        raise UserError("device is for a folder or a name: a run that is given stays where it is")
    else:
        run, name = source, "the run"
    if not isinstance(run, kinds):
        wanted = " or ".join(kind.kind for kind in kinds)
        raise UserError(f"{name} is {run.kind}, and {door} takes {wanted}: use {run.door}")
    return run


def each(texts: Any, answer: Callable[[Iterable[str]], Iterator[A]], doing: str) -> A | list[A] | Iterator[A]:
    """An answer to one text, a list of them to a list; to an iterator one of them, each text read as it is wanted.

    A list that takes longer shows a bar on standard error, where that is a terminal.
    """
    if isinstance(texts, str):
        [found] = answer([texts])
        return found
    if isinstance(texts, Iterator):
        return answer(checked(texts))
    if not isinstance(texts, Iterable):
        raise UserError(f"expected a text, or a list or an iterator of texts, not {type(texts).__name__}")
    given = list(checked(texts))
    answers = answer(given)
    return list(tqdm(answers, total=len(given), desc=doing, unit=" texts", delay=_SECONDS, disable=None, leave=False))


def checked(texts: Iterable[Any]) -> Iterator[str]:
    """The texts. UserError: one is none."""
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise UserError(f"text {number} is {text!r:.60}, which is no text but {type(text).__name__}")
        yield text


def settled(how: H, options: Mapping[str, Any]) -> H:
    """`how` with these options. UserError: one is none, or not what it can be."""
    if wrong := unfit(type(how), options, ""):
        raise UserError(wrong)
    return replace(how, **options)


def dtype_of(name: str) -> torch.dtype:
    """The type of this name. UserError: it is none to compute with."""
    if wrong := unfit(Literal["float32", "bfloat16", "float16"], name, "dtype"):
        raise UserError(wrong)
    found: torch.dtype = getattr(torch, name)
    return found
