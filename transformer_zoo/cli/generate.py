"""`transformer-zoo generate`: write on with a trained model."""

import json as jsonlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse.typing import NonNegativeInt, PositiveInt

from transformer_zoo.cli.streams import input_lines
from transformer_zoo.config import Sampling
from transformer_zoo.errors import UsageError

if TYPE_CHECKING:
    from transformer_zoo.inference import NewText


@dataclass(frozen=True, kw_only=True)
class Answering(Sampling):
    """How the next token is chosen, when there is none, and where that is done.

    Args:
        max_new_tokens: Most tokens of an answer.
        lookup: Answers that are written alone on a CPU are faster where they repeat what was there before: up to so
            many tokens are guessed by it, and kept if they would have been drawn anyway. 0 never guesses.
        stop: Strings that end an answer, and are not part of it, beside those of the model.
        seed: Makes the answers the same each time: answer number i, from 0, is drawn with seed + i. By default they
            are others each time.
        no_draft: On a CPU in float32 a copy of the model with 8-bit weights helps: it guesses how an answer that is
            written alone goes on, and the model agrees or not; at temperature 0 it also finds which tokens may be the
            likeliest. The same answers, up to twice as fast, for a quarter to a half more memory. Small models, which
            would not gain by it, do without; with this, so do all.
        device: cpu, cuda or cuda:N; auto is the GPU where there is one.
        dtype: Of the model's weights.
    """

    max_new_tokens: PositiveInt = 200
    temperature: float = 0.8
    lookup: NonNegativeInt = 8
    stop: list[str] = field(default_factory=list)
    seed: NonNegativeInt | None = None
    no_draft: bool = False
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


@dataclass(frozen=True, kw_only=True)
class Writing(Answering):
    """How answers to prompts are written.

    Args:
        stride: Prompt and answer may be longer than the model's context. Then it reads the last part of them, which
            moves by so many tokens each time it is full; by default a quarter of the context.
        write_special: Let answers have the unknown token, padding and the token for a begin, which are no text.
    """

    stride: PositiveInt | None = None
    write_special: bool = False


def generate(
    run: Path,
    writing: Writing,
    prompt: list[str] = [],  # noqa: B006  (it is only read)
    input: Path | None = None,
    whole: bool = False,
    num_samples: PositiveInt = 1,
    batch_size: PositiveInt = 16,
    json: bool = False,
) -> None:
    """Write on from a prompt, or draw a translation of it, token by token, with a trained run.

    Prompts and their answers are written as they come, in order; lines of --- stand between several. An empty prompt
    begins a new text.

    Args:
        run: Folder of a trained run.
        writing: Writing.
        prompt: Texts to go on from.
        input: File with a prompt in each line, plain or .gz; standard input where there is no --prompt either.
        whole: The file, or standard input, is one prompt with all its lines.
        num_samples: Answers to each prompt.
        batch_size: Answers that are written at once; more are faster. It does not change them.
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

    from transformer_zoo.inference import Speculation, Steps, write
    from transformer_zoo.runs.load import load_writer
    from transformer_zoo.training.device import choose_device

    loaded = load_writer(run, device=choose_device(writing.device))
    loaded.model.to(getattr(torch, writing.dtype))
    prompts = ["\n".join(input_lines(input))] if whole else prompt or input_lines(input)
    wanted = ((text, sample) for text in prompts for sample in range(num_samples))
    answering_lines = not prompt and not whole and input is None and sys.stdin.isatty()
    at_once = num_samples if answering_lines else batch_size
    if isinstance(prompts, list):
        at_once = min(at_once, num_samples * len(prompts))
    drafting = prepare(loaded.model, at_once, helps=not writing.no_draft and (at_once == 1 or writing.is_greedy))
    first = int(torch.randint(2**62, ())) if writing.seed is None else writing.seed

    def answers(prompts: list[str], number: int) -> Iterator["NewText"]:
        return write(
            loaded.model,
            loaded.tokenizer,
            prompts,
            writing,
            stops=writing.stop,
            max_new_tokens=writing.max_new_tokens,
            seed=first + number,
            never=() if writing.write_special else None,
            speculation=Speculation(lookup=writing.lookup, draft=drafting),
            steps=Steps(stride=writing.stride),
        )

    texts = _write(answers, wanted, at_once)
    _print_json(texts) if json else _print_text(texts)


Answers = Iterator[tuple[tuple[str, int], Iterator["NewText"]]]


def _write(
    answers: Callable[[list[str], int], Iterator["NewText"]], wanted: Iterable[tuple[str, int]], batch_size: int
) -> Answers:
    """Each prompt, the number of its sample, and the pieces of the answer."""
    source = iter(wanted)
    batches = iter(lambda: list(islice(source, batch_size)), [])
    for first, batch in zip(count(0, batch_size), batches, strict=False):
        pieces = answers([text for text, _ in batch], first)
        yield from zip(batch, in_order(pieces, len(batch)), strict=True)


def in_order(pieces: Iterable["NewText"], n: int) -> Iterator[Iterator["NewText"]]:
    """The pieces of answer 0 as they come, then those of answer 1, of which some have come already, and so on.

    Each answer must be read to its end before the next is asked for.
    """
    source = iter(pieces)
    waiting: list[list[NewText]] = [[] for _ in range(n)]

    def answer(row: int) -> Iterator["NewText"]:
        yield from waiting[row]
        if waiting[row] and waiting[row][-1].end:
            return
        for piece in source:
            if piece.row != row:
                waiting[piece.row].append(piece)
                continue
            yield piece
            if piece.end:
                return

    yield from map(answer, range(n))


def _print_text(answers: Answers) -> None:
    for number, ((prompt, _), pieces) in enumerate(answers):
        start = "---\n" * (number > 0) + prompt
        for piece in pieces:
            print(start + piece.text, end="\n" if piece.end else "", flush=True)
            start = ""


def prepare(model: Any, at_once: int, *, helps: bool) -> Any:
    """A draft of the model, where one `helps` and makes it faster; weights laid out for so many answers `at_once`."""
    from transformer_zoo.inference import draft_of, pack

    draft = draft_of(model) if helps else None
    if at_once >= 4 or draft is not None:
        pack(model, in_place=True)
    return draft


def _print_json(answers: Answers) -> None:
    for (prompt, sample), pieces in answers:
        parts = list(pieces)
        answer = {"prompt": prompt, "sample": sample, "text": "".join(part.text for part in parts)}
        print(jsonlib.dumps({**answer, "end": parts[-1].end}, ensure_ascii=False), flush=True)
