"""Speculative decoding: guesses of the next tokens from two sources, the text itself and a cheaper model."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformer_zoo.errors import UserError
from transformer_zoo.models import DecodingModel

LONGEST_DRAFT = 8
_KEPT = 0.9  # of what earlier drafts count, at each new one
_LEAST = 1e-3


@dataclass(frozen=True, kw_only=True)
class Speculation:
    """Speculative decoding, for one row and steps that are not static. The model reads a guess at once and drops the
    tokens that it would not have chosen. So only the speed changes.
    >>> one, other = (generate(gpt, [[5, 7] * 9], Sampling(top_k=1), speculation=Speculation(lookup=n)) for n in (0, 8))
    >>> one == other
    True

    Args:
        lookup: Guess up to this many tokens: those that followed the last three tokens where these stood before. The
            more a text repeats itself, the faster it is written. 0: never guess.
        draft: `quantize(model)`, which guesses where `lookup` has nothing as good. On a CPU most time goes into reading
            weights, and the draft reads a quarter of the bytes. For greedy choice it also finds the most likely token
            of each of several rows, and reads a quarter or half of the head's bytes.

    Raises:
        UserError: a number is below 0.
    """

    lookup: int = 8
    draft: DecodingModel | None = None

    def __post_init__(self) -> None:
        if self.lookup < 0:
            raise UserError(f"lookup {self.lookup} must be at least 0")


class Guesser:
    """Guesses by a draft, a model that reads fewer bytes, or by `Lookup` where its recent guesses were right for as
    long.

    The model reads a guess at once and keeps it as far as it would have written the same (Leviathan et al. 2023, "Fast
    inference from Transformers via speculative decoding"). So a draft makes writing faster, and never changes it. A
    draft continues as long as the whole guess is more likely right than wrong, judging by earlier guesses.

    Args:
        lookup: finds guesses in the text, which cost nothing.
        draft: returns the given number of tokens that may follow; None: only the text is used.
    """

    def __init__(self, lookup: "Lookup", draft: Callable[[int], list[int]] | None = None) -> None:
        self.lookup, self.draft = lookup, draft
        self.right, self.wrong = float(LONGEST_DRAFT), 0.5  # drafted tokens, the older the fewer
        self.found: list[int] = []
        self.drafted: list[int] = []

    def guess(self, text: Sequence[int], room: int) -> list[int]:
        """Tokens that may follow the text, at most `room`. The text is that of the last call with more after it."""
        self.found, self.drafted = self.lookup.guess(text, room), []
        size = min(self._size(), room)
        if self.draft is not None and size > len(self.found):
            self.drafted = self.draft(size)
            self.found = self.lookup.guess(text, room, self.lookup.longest)  # to see how far it would have been right
        return self.drafted or self.found

    def learn(self, written: Sequence[int]) -> None:
        """Learn from what was written after the text that the last guess was for."""
        if self.found:
            self.lookup.learn(_same(self.found, written))
        if self.drafted:
            right = _same(self.drafted, written)
            self.right = max(_KEPT * self.right + right, _LEAST)
            self.wrong = max(_KEPT * self.wrong + (right < len(self.drafted)), _LEAST)

    def _size(self) -> int:
        """The n with p^n = 1/2, where p = right / (right + wrong)."""
        return max(1, min(LONGEST_DRAFT, int(math.log(2) / math.log1p(self.wrong / self.right))))


def _same(guess: Sequence[int], written: Sequence[int]) -> int:
    """How many of the first tokens are the same."""
    pairs = zip(guess, written, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(guess), len(written)))


class Lookup:
    """Guesses that a text continues as it did where its last tokens stood before.

    Such a guess costs nothing, and reading several tokens at once costs a model little more than reading one (Saxena
    2023, "Prompt lookup decoding"; Leviathan et al. 2023, "Fast inference from Transformers via speculative decoding").
    A guess is as long as the last one was good.

    Args:
        longest: number of tokens of the longest guess; 0: never guess.
        n: number of tokens that must be the same.
    """

    def __init__(self, longest: int, n: int = 3) -> None:
        self.longest, self.n = longest, n
        self.size = min(longest, 1)
        self.known = n  # the text up to here is in `after`
        self.after: dict[tuple[int, ...], int] = {}  # n tokens -> the index after the last of them

    def guess(self, text: Sequence[int], room: int, size: int | None = None) -> list[int]:
        """Tokens that may follow the text, at most `room`. The text is that of the last call with more after it.

        size: number of tokens; None: chosen by earlier guesses.
        """
        size = min(self.size if size is None else size, room)
        if size < 1:
            return []
        for place in range(self.known, len(text)):
            self.after[tuple(text[place - self.n : place])] = place
        self.known = max(self.known, len(text))
        place = self.after.get(tuple(text[-self.n :]), len(text))
        found = list(text[place : place + size])
        while found and len(found) < size:  # the text repeats itself, so the guess does too
            found += found[: size - len(found)]
        return found

    def learn(self, right: int) -> None:
        """Learn that this many tokens of the last guess were right."""
        self.size = min(self.longest, 2 * right + 1)
