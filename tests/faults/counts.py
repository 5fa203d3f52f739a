"""What a kind of fault hands back: counts, of which some must be zero."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Count:
    """One line of the summary: what was done how often, how often each bad end came of it, and other numbers."""

    what: str
    tried: int
    bad: dict[str, int]
    notes: dict[str, int | float | str] = field(default_factory=dict)


def table(counts: Sequence[tuple[str, Count]]) -> str:
    """The counts of every kind, a line each."""
    rows = [("kind", "what", "tried", "bad", "")]
    for kind, count in counts:
        bad, notes = (", ".join(f"{n} {name}" for name, n in part.items()) for part in (count.bad, count.notes))
        rows.append((kind, count.what, str(count.tried), bad, notes))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
