"""Which target lines a tokenizer can write, and which no translation can ever match."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformer_zoo.tokenizers.tokenizer import Tokenizer

_EXAMPLES = 5
_CHUNK = 10_000
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class WritableReport:
    """How many of `n_lines` lines do not come back from their ids, and five of them as (line, what comes back)."""

    name: str
    n_lines: int
    n_lost: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the lines, from 0 to 1."""
        return self.n_lost / max(1, self.n_lines)

    def as_dict(self) -> dict[str, Any]:
        """For results.json."""
        examples = [{"line": line, "at_best": back} for line, back in self.examples]
        return {"lines": self.n_lines, "not_writable": self.n_lost, "share": self.share, "examples": examples}

    def __str__(self) -> str:
        shown = "; ".join(f"{_short(line)} at best as {_short(back)}" for line, back in self.examples)
        return f"{self.name}: {self.n_lost:,} of {self.n_lines:,} targets ({self.share:.2%}) cannot be written: {shown}"


def check_writable(side: Tokenizer, lines: Sequence[str], name: str) -> WritableReport:
    """Which of the lines, called `name`, are not given back by a tokenizer, but for white space."""
    n_lost, examples = 0, list[tuple[str, str]]()
    for line, back in round_trips(side, lines):
        if line.split() != back.split():
            n_lost += 1
            examples += [(line, back)] if len(examples) < _EXAMPLES else []
    return WritableReport(name, len(lines), n_lost, examples)


def report_unwritable(
    side: Tokenizer, texts: Mapping[str, Sequence[str]], say: Callable[[str], object]
) -> dict[str, dict[str, Any]]:
    """Warns of the lines of each text that cannot be written; the reports as plain data."""
    reports = [check_writable(side, lines, name) for name, lines in texts.items()]
    for report in reports:
        if report.n_lost:
            say(f"warning: {report} (see tokenizer.target_normalization, character_coverage and byte_fallback)")
    return {report.name: report.as_dict() for report in reports}


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
