"""Guesses of the next tokens, for a model to read in one piece and keep as far as it would have written them itself."""

from collections.abc import Sequence


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
