"""Warnings about some of many lines: counted, with the numbers of a few lines, once all lines are done."""

import warnings
from collections.abc import Sequence

_EXAMPLES = 5


class Notes:
    """Numbers of lines, grouped by what there is to say about them, as warnings.

    Args:
        name: begins each warning, unless it is empty.
        at_once: warn about each line immediately, for a caller who waits for each.
    """

    def __init__(self, name: str = "", *, at_once: bool = False) -> None:
        self.name, self.at_once = name, at_once
        self.lines: dict[str, list[int]] = {}

    def add(self, number: int, what: str) -> None:
        """Note that `what` must be said about line `number`."""
        self.lines.setdefault(what, []).append(number)
        if self.at_once:
            self.warn(number)

    def warn(self, n_lines: int) -> None:
        """All warnings; `n_lines` is the number of lines."""
        for what, numbers in self.lines.items():
            start = f"{self.name}: " if self.name else ""
            warnings.warn(f"{start}{_counted(numbers, n_lines)}: {what}", stacklevel=3)
        self.lines = {}


def _counted(numbers: Sequence[int], n_lines: int) -> str:
    some = ", ".join(map(str, numbers[:_EXAMPLES])) + (", ..." if len(numbers) > _EXAMPLES else "")
    return f"line {some}" if len(numbers) == 1 else f"{len(numbers):,} of {n_lines:,} lines ({some})"
