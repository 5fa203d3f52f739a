"""Guesses of the next tokens from two sources: the text itself, and a cheaper model."""

import math
from collections.abc import Callable, Sequence

from transformer_zoo.generation.lookup import Lookup

LONGEST_DRAFT = 8
_KEPT = 0.9  # of what earlier drafts count, at each new one
_LEAST = 1e-3


class Guesser:
    """Guesses by a draft, a model that reads fewer bytes, and by `Lookup` where that has lately been right as far.

    A guess is read by the model in one piece and kept as far as the model would have written it itself (Leviathan et
    al. 2023, "Fast inference from Transformers via speculative decoding"): a draft makes writing faster, never other.
    A draft writes on as long as all of it is likelier right than not, by what was right of those before.

    Args:
        lookup: for guesses out of the text, which cost nothing.
        draft: gives so many tokens that may follow; None: only the text is asked.
    """

    def __init__(self, lookup: Lookup, draft: Callable[[int], list[int]] | None = None) -> None:
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
