"""`transformer-zoo generate`: continue texts with a trained model."""

import json as jsonlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse.typing import NonNegativeInt, PositiveInt

from transformer_zoo.cli.streams import input_lines
from transformer_zoo.cli.terminal import answered, is_typed, typed_lines
from transformer_zoo.config.decoding import Writing
from transformer_zoo.errors import UsageError

if TYPE_CHECKING:
    from transformer_zoo.inference import NewText


@dataclass(frozen=True, kw_only=True)
class Computing:
    """Where and how answers are computed.

    Args:
        lookup: A single answer on a CPU is written faster where it repeats earlier text: up to this many tokens are
            guessed from there, and kept if they would have been drawn anyway. 0 never guesses.
        no_draft: Do not use a draft. On a CPU in float32 a copy of the model with 8-bit weights drafts the tokens of a
            single answer, and the model accepts or rejects them. At temperature 0 it also finds the tokens that may be
            the most likely. Answers are the same, up to twice as fast, for a quarter to a half more memory. Small
            models would not gain and never use it.
        device: cpu, cuda, cuda:N or mps; auto is the GPU if there is one.
        dtype: Type of the model's weights.
    """

    lookup: NonNegativeInt = 8
    no_draft: bool = False
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


@dataclass(frozen=True, kw_only=True)
class WritingOptions(Writing, Computing):
    """How answers to prompts are written."""


def generate(
    run: Path,
    writing: WritingOptions,
    prompt: list[str] = [],  # noqa: B006  (it is only read)
    input: Path | None = None,
    whole: bool = False,
    num_samples: PositiveInt = 1,
    batch_size: PositiveInt = 16,
    json: bool = False,
) -> None:
    """Continue a prompt, or draw a translation of it, token by token, with a trained run.

    Prompts and their answers are written as they come, in order, with lines of --- between them. An empty prompt begins
    a new text.

    Args:
        run: Folder of a trained run.
        writing: Writing.
        prompt: Texts to continue.
        input: File with a prompt in each line, plain or .gz; standard input if --prompt is not given either.
        whole: The file, or standard input, is one prompt with all its lines.
        num_samples: Number of answers to each prompt.
        batch_size: Number of answers that are written at a time; more are faster. It does not change them.
        json: Print a line of JSON for each answer instead: prompt, sample, text, and what ended it (eos, stop or
            length).

    Examples:
        transformer-zoo generate runs/gpt
        transformer-zoo generate runs/gpt --prompt "Once upon a time" --max-new-tokens 50
        transformer-zoo generate runs/gpt --input prompts.txt --temperature 0.5 --seed 1
    """
    if prompt and (input is not None or whole):
        raise UsageError("--prompt and --input, or --whole, exclude each other")
    import torch

    from transformer_zoo.runs import Writer
    from transformer_zoo.runs.load import load_writer
    from transformer_zoo.training.device import choose_device

    loaded, typed = load_writer(run, device=choose_device(writing.device)), not prompt and not whole and is_typed(input)
    loaded.model.to(getattr(torch, writing.dtype))
    how = {one.name: getattr(writing, one.name) for one in fields(Writing)}
    at_once = num_samples if typed else batch_size
    writer = Writer(
        loaded, batch_size=at_once, lookup=writing.lookup, drafts=not writing.no_draft, in_place=True, **how
    )
    lines = typed_lines("generate", "Type how a text begins") if typed else input_lines(input)

    def written(prompts: Iterator[str]) -> Answers:
        """The answers to each prompt."""
        asked = deque[tuple[str, int]]()

        def asking() -> Iterator[str]:
            for text in prompts:
                for sample in range(num_samples):
                    asked.append((text, sample))
                    yield text

        for pieces in writer.answers(asking()):
            yield asked.popleft(), pieces

    prompts = iter(["\n".join(lines)] if whole else prompt or lines)
    answers = answered(written, prompts) if typed else written(prompts)
    _print_json(answers) if json else _print_text(answers, between="" if typed else "---\n")


Answers = Iterator[tuple[tuple[str, int], Iterator["NewText"]]]


def _print_text(answers: Answers, between: str) -> None:
    for number, ((prompt, _), pieces) in enumerate(answers):
        start = between * (number > 0) + prompt
        for piece in pieces:
            print(start + piece.text, end="\n" if piece.end else "", flush=True)
            start = ""


def _print_json(answers: Answers) -> None:
    for (prompt, sample), pieces in answers:
        parts = list(pieces)
        answer = {"prompt": prompt, "sample": sample, "text": "".join(part.text for part in parts)}
        print(jsonlib.dumps({**answer, "end": parts[-1].end}, ensure_ascii=False), flush=True)
