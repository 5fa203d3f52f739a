"""Guesses of the next tokens from two sources: the text itself, and a cheaper model."""

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
    """Guessing ahead where one row is left and steps are not static. A guess is read in one piece, and what would not
    have been chosen anyway is dropped: nothing but the speed changes.
    >>> one, other = (generate(gpt, [[5, 7] * 9], Sampling(top_k=1), speculation=Speculation(lookup=n)) for n in (0, 8))
    >>> one == other
    True

    Args:
        lookup: Guess up to so many tokens: those that followed the last three when they stood there before. The more a
            text repeats itself the faster it is written. 0: never guess.
        draft: `quantize(model)`; it guesses where `lookup` has nothing as good. On a CPU reading weights is what takes
            time, and it reads a quarter of the bytes. Where the likeliest token is wanted it also finds that of each of
            several rows, and reads a quarter or half of the head's.

    Raises:
        UserError: a number below 0.
    """

    lookup: int = 8
    draft: DecodingModel | None = None

    def __post_init__(self) -> None:
        if self.lookup < 0:
            raise UserError(f"lookup {self.lookup} must be at least 0")


class Guesser:
    """Guesses by a draft, a model that reads fewer bytes, and by `Lookup` where that has lately been right as far.

    A guess is read by the model in one piece and kept as far as the model would have written it itself (Leviathan et
    al. 2023, "Fast inference from Transformers via speculative decoding"): a draft makes writing faster, never other.
    A draft writes on as long as all of it is likelier right than not, by what was right of those before.

    Args:
        lookup: for guesses out of the text, which cost nothing.
        draft: gives so many tokens that may follow; None: only the text is asked.
    """

    def __init__(self, lookup: "Lookup", draft: Callable[[int], list[int]] | None = None) -> None:
        self.lookup, self.draft = lookup, draft
        self.right, self.wrong = float(LONGEST_DRAFT), 0.5  # drafted tokens, the older the fewer
        self.found: list[int] = []
        self.drafted: list[int] = []

    def guess(self, text: Sequence[int], room: int) -> list[int]:
        """What may follow the text, at most `room` tokens. The text is that of the last call, and more after it."""
        self.found, self.drafted = self.lookup.guess(text, room), []
        size = min(self._size(), room)
        if self.draft is not None and size > len(self.found):
            self.drafted = self.draft(size)
            self.found = self.lookup.guess(text, room, self.lookup.longest)  # to see how far it would have been right
        return self.drafted or self.found

    def learn(self, written: Sequence[int]) -> None:
        """What was written after the text that the last guess was for."""
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
    """Guesses that a text goes on as it did where its last tokens stood before.

    Such a guess costs nothing, and reading several tokens at once costs a model little more than one (Saxena 2023,
    "Prompt lookup decoding"; Leviathan et al. 2023, "Fast inference from Transformers via speculative decoding"). A
    guess is as long as the last one was good.

    Args:
        longest: tokens of the longest guess; 0: never guess.
        n: how many tokens must be the same.
    """

    def __init__(self, longest: int, n: int = 3) -> None:
        self.longest, self.n = longest, n
        self.size = min(longest, 1)
        self.known = n  # the text up to here is in `after`
        self.after: dict[tuple[int, ...], int] = {}  # n tokens -> the place after the last of them

    def guess(self, text: Sequence[int], room: int, size: int | None = None) -> list[int]:
        """What may follow the text, at most `room` tokens. The text is that of the last call, and more after it.

        size: of the guess; None: by what was right before.
        """
        size = min(self.size if size is None else size, room)
        if size < 1:
            return []
        for place in range(self.known, len(text)):
            self.after[tuple(text[place - self.n : place])] = place
        self.known = max(self.known, len(text))
        place = self.after.get(tuple(text[-self.n :]), len(text))
        found = list(text[place : place + size])
        while found and len(found) < size:  # the text repeats itself: so does the guess
            found += found[: size - len(found)]
        return found

    def learn(self, right: int) -> None:
        """So many tokens of the last guess were right."""
        self.size = min(self.longest, 2 * right + 1)
