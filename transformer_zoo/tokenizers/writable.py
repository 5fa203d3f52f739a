"""Which target lines a tokenizer can write, and which no translation can ever match."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

from transformer_zoo.tokenizers.tokenizer import Tokenizer

_EXAMPLES = 5
_CHUNK = 10_000
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class WritableReport:
    """How many of some lines do not come back from their ids, and five of them with what does."""

    lines: int
    not_writable: int
    examples: list[dict[Literal["line", "at_best"], str]]

    def __str__(self) -> str:
        shown = "; ".join(f"{_short(one['line'])} at best as {_short(one['at_best'])}" for one in self.examples)
        share = self.not_writable / max(1, self.lines)
        return f"{self.not_writable:,} of {self.lines:,} targets ({share:.2%}) cannot be written: {shown}"


def check_writable(side: Tokenizer, lines: Sequence[str]) -> WritableReport:
    """Which of the lines are not given back by a tokenizer, but for white space."""
    lost = ((line, back) for line, back in round_trips(side, lines) if line.split() != back.split())
    shown = list(islice(lost, _EXAMPLES))
    n_lost = len(shown) + sum(1 for _ in lost)
    return WritableReport(len(lines), n_lost, [{"line": line, "at_best": back} for line, back in shown])


def report_unwritable(
    side: Tokenizer, texts: Mapping[str, Sequence[str]], say: Callable[[str], object]
) -> dict[str, dict[str, Any]]:
    """Warns of the lines of each text that cannot be written; the reports as plain data."""
    reports = {name: check_writable(side, lines) for name, lines in texts.items()}
    for name, report in reports.items():
        if report.not_writable:
            say(f"warning: {name}: {report} (see tokenizer.target_normalization, character_coverage and byte_fallback)")
    return {name: asdict(report) for name, report in reports.items()}


def round_trips(side: Tokenizer, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each line, and what its ids are as text."""
    for start in range(0, len(lines), _CHUNK):
        chunk = lines[start : start + _CHUNK]
        yield from zip(chunk, map(side.decode, side.encode_batch(chunk)), strict=True)


def unwritable_characters(side: Tokenizer, text: str) -> list[str]:
    """The characters of a text that the tokenizer has no way to write, in order; [] if it gives the text back.

    Where each alone can be written, and the text not, it is all of them.
    """
    [(_, back)] = round_trips(side, [text])
    if text.split() == back.split():
        return []
    characters = [c for c in dict.fromkeys(text) if not c.isspace()]
    return [c for c, back in round_trips(side, characters) if back.split() != [c]] or characters


def _short(line: str) -> str:
    return repr(line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…")
