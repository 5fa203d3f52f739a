"""Lines that are much longer than what a model was trained on, cut at the ends of sentences."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple, Self

from transformer_zoo.languages import code_of
from transformer_zoo.models import DecodingModel

# A line is cut when it has more than so many times the tokens of the longest source in training.
_WELL_BEYOND = 1.5
_SPACES = re.compile(r"\s+")
_FIRST_LETTERS = re.compile(r"(?<!\S)[^\W\d_]")


class Parts(NamedTuple):
    """A line in parts that are translated apart, and what is to be said of that; "": nothing, it is one."""

    texts: list[str]
    how: str = ""


@dataclass(frozen=True, kw_only=True)
class Cutter:
    """Cuts lines that are much longer than what a model was trained on.

    Args:
        trained: tokens of the longest source in training, its end included.
        holds: the most that the model can be given.
        language: of the lines, in any spelling; None: it is not known, and they are cut as English is.
    """

    trained: int
    holds: int
    language: str | None = None

    @classmethod
    def of(cls, model: DecodingModel, trained: int, language: str | None) -> Self:
        """For what this model takes."""
        holds = min(model.facts.context, max(model.config.max_seq_len, trained))
        return cls(trained=trained, holds=holds, language=language)

    def is_long(self, n_tokens: int) -> bool:
        """Whether a line of so many tokens, its end included, is well beyond what the model knows."""
        return n_tokens > min(_WELL_BEYOND * self.trained, self.holds)

    def cut(self, line: str, count: Callable[[str], int]) -> Parts:
        """A long line in parts of as many sentences as the longest line in training has room for.

        A sentence is cut only where the model cannot take it, since what it means would be lost: at the spaces next to
        the middle, else there.

        Args:
            line: without white space around it.
            count: the tokens of a text, its end included.
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
    """The sentences of a line, each with the space behind it, as `sentencex` finds them; None: as in English.

    It takes a small letter for one that goes on with a sentence. Of a line without capital letters that says nothing:
    words are shown to it with capitals.
    """
    from sentencex import segment  # only long lines need it

    shown = _FIRST_LETTERS.sub(_capital, line) if line == line.lower() else line
    ends = accumulate(map(len, segment(code_of(language) or "en", shown)))
    return (line[start:end] for start, end in pairwise([0, *ends]))


def _capital(letter: re.Match[str]) -> str:
    """The letter as a capital, if that is one letter too."""
    capital = letter[0].upper()
    return capital if len(capital) == 1 else letter[0]


def _halves(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text halved until every piece fits."""
    if fits(text) or len(text) < 2:
        return [text]
    ends = [match.end() for match in _SPACES.finditer(text)] or [len(text) // 2]
    cut = min(ends, key=lambda end: abs(2 * end - len(text)))
    return [piece for half in (text[:cut], text[cut:]) for piece in _halves(half.strip(), fits)]
