"""What `translator`, `writer` and `scorer` have in common: they open a run by any name, and take one text or many."""

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
"""A run, or the place of one in any form that `load_run` takes."""
Texts = list[str] | tuple[str, ...]
Stream = Iterator[str]
_SECONDS = 3.0  # seconds after which a progress bar is shown


def opened(source: Source, device: str | None, door: str, *kinds: type[R]) -> R:
    """The run on the device, if it is of one of these kinds. None: the GPU if there is one.

    Raises:
        UserError: there is no such run, or it is of another kind; the message names the function for that kind.
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
    """The answer to one text, or a list of answers to a list. An iterator gives an iterator, which reads texts when
    needed.

    A list that takes longer shows a progress bar on standard error, if that is a terminal.
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
    """The texts. UserError: one is not a text."""
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise UserError(f"text {number} is {text!r:.60}, which is not text but {type(text).__name__}")
        yield text


def settled(how: H, options: Mapping[str, Any]) -> H:
    """`how` with these options. UserError: an option does not exist, or has a value that it cannot have."""
    if wrong := unfit(type(how), options, ""):
        raise UserError(wrong)
    return replace(how, **options)


def dtype_of(name: str) -> torch.dtype:
    """The type of this name. UserError: models do not compute in such a type."""
    if wrong := unfit(Literal["float32", "bfloat16", "float16"], name, "dtype"):
        raise UserError(wrong)
    found: torch.dtype = getattr(torch, name)
    return found
