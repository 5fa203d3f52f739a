"""Cuts lines that are much longer than those a model was trained on, at the ends of sentences."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple, Self

from transformer_zoo.languages import code_of
from transformer_zoo.models import DecodingModel

# A line is cut if it has more than this many times the tokens of the longest source in training.
_WELL_BEYOND = 1.5
_SPACES = re.compile(r"\s+")
_FIRST_LETTERS = re.compile(r"(?<!\S)[^\W\d_]")


class Parts(NamedTuple):
    """The parts of a line that are translated separately, and a note about them; "": no note, the line is one part."""

    texts: list[str]
    how: str = ""


@dataclass(frozen=True, kw_only=True)
class Cutter:
    """Cuts lines that are much longer than those a model was trained on.

    Args:
        trained: number of tokens of the longest source in training, its end included.
        holds: number of tokens that the model can be given, at most.
        language: language of the lines, in any spelling; None: it is not known, and lines are cut as in English.
    """

    trained: int
    holds: int
    language: str | None = None

    @classmethod
    def of(cls, model: DecodingModel, trained: int, language: str | None) -> Self:
        """The cutter for this model."""
        holds = min(model.facts.context, max(model.config.max_seq_len, trained))
        return cls(trained=trained, holds=holds, language=language)

    def is_long(self, n_tokens: int) -> bool:
        """Whether a line of this many tokens, its end included, is much longer than what the model knows."""
        return n_tokens > min(_WELL_BEYOND * self.trained, self.holds)

    def cut(self, line: str, count: Callable[[str], int]) -> Parts:
        """A long line in parts, each with as many sentences as the longest line in training would hold.

        A sentence is cut only if the model cannot take it, because its meaning would be lost. It is cut at the space
        nearest to the middle, or in the middle if there is no space.

        Args:
            line: a line without white space around it.
            count: counts the tokens of a text, its end included.
        """
        parts = list[str]()
        for sentence in sentences(line, self.language):
            if parts and count(parts[-1] + sentence) <= min(self.trained, self.holds):
                parts[-1] += sentence
            else:
                parts.append(sentence)
        held = [half for part in parts for half in _halves(part.strip(), lambda half: count(half) <= self.holds)]
        return Parts([part for part in held if part], self._how(len(parts), len(held)))

    def _how(self, n_parts: int, n_held: int) -> str:
        if n_held == 1:
            return "as a whole, which is one sentence"
        unknown = "" if self.language else ", cut as English is, since the source language is not known"
        broken = "" if n_held == n_parts else ", also of sentences, which are longer than the model takes"
        return f"in pieces{broken}{unknown}"


def sentences(line: str, language: str | None = None) -> Iterator[str]:
    """The sentences of a line, each with the white space after it, as `sentencex` finds them; None: as in English.

    `sentencex` takes a small letter for the continuation of a sentence. In a line without capital letters that would
    mislead it, so it is shown the words with capitals.
    """
    from sentencex import segment  # only long lines need it

    shown = _FIRST_LETTERS.sub(_capital, line) if line == line.lower() else line
    ends = accumulate(map(len, segment(code_of(language) or "en", shown)))
    return (line[start:end] for start, end in pairwise([0, *ends]))


def _capital(letter: re.Match[str]) -> str:
    """The letter as a capital, if that is also one letter."""
    capital = letter[0].upper()
    return capital if len(capital) == 1 else letter[0]


def _halves(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text, halved until every piece fits."""
    if fits(text) or len(text) < 2:
        return [text]
    ends = [match.end() for match in _SPACES.finditer(text)] or [len(text) // 2]
    cut = min(ends, key=lambda end: abs(2 * end - len(text)))
    return [piece for half in (text[:cut], text[cut:]) for piece in _halves(half.strip(), fits)]
