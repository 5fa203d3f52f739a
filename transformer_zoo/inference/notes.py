"""What has to be said about some of many lines: counted, with the numbers of a few, once they are all done."""

import warnings
from collections.abc import Sequence

_EXAMPLES = 5


class Notes:
    """Numbers of lines, by what there is to say of them, as warnings.

    Args:
        name: begins each warning, where it is not empty.
        at_once: each line's as soon as there is one, for somebody who waits for each.
    """

    def __init__(self, name: str = "", *, at_once: bool = False) -> None:
        self.name, self.at_once = name, at_once
        self.lines: dict[str, list[int]] = {}

    def add(self, number: int, what: str) -> None:
        """`what` is to be said of line `number`."""
        self.lines.setdefault(what, []).append(number)
        if self.at_once:
            self.warn(number)

    def warn(self, n_lines: int) -> None:
        """All that was added; `n_lines` is how many lines there were."""
        for what, numbers in self.lines.items():
            start = f"{self.name}: " if self.name else ""
            warnings.warn(f"{start}{_counted(numbers, n_lines)}: {what}", stacklevel=3)
        self.lines = {}


def _counted(numbers: Sequence[int], n_lines: int) -> str:
    some = ", ".join(map(str, numbers[:_EXAMPLES])) + (", ..." if len(numbers) > _EXAMPLES else "")
    return f"line {some}" if len(numbers) == 1 else f"{len(numbers):,} of {n_lines:,} lines ({some})"
