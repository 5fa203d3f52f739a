"""Which pairs are dropped before training, and why; a report counts them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from transformer_zoo.characters import EMPTY, INVISIBLE, why_blank
from transformer_zoo.data.parallel import ParallelText
from transformer_zoo.errors import UserError

_EXAMPLES = 5
# A ratio of lengths below this many characters says nothing: "Hi." is "Guten Tag!".
_RATIO_FROM = 30


@dataclass(kw_only=True)
class Cleaning:
    """What to drop before training. Pairs with a blank side, or too long for the model, are always dropped.
    >>> clean(ParallelText(["ja"] * 3, ["yes"] * 3), Cleaning(drop_duplicates=True))[1].n_dropped
    2

    Args:
        drop_duplicates: Drop a pair that occurred before, with the same letters on both sides.
        max_length_ratio: Drop a pair whose longer side has more than this many times the characters of the
            shorter; 0 keeps all. Pairs of at most 30 characters are kept.
        max_tokens: Drop a pair if a side has more tokens than this, bos or eos included; 0 for no limit except the
            model's.
    """

    drop_duplicates: bool = True
    max_length_ratio: float = 0.0
    max_tokens: int = 0


@dataclass
class CleaningReport:
    """Which lines were dropped and why: `dropped[reason]` holds their line numbers (from 1)."""

    name: str
    n_pairs: int
    dropped: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def n_dropped(self) -> int:
        return sum(map(len, self.dropped.values()))

    def __str__(self) -> str:
        """One line: counts, and the first line numbers for each reason."""
        kept = f"{self.name}: kept {self.n_pairs - self.n_dropped:,} of {self.n_pairs:,} pairs"
        return "; ".join([kept, *(_reason(why, lines) for why, lines in self.dropped.items() if len(lines))])


def _reason(why: str, lines: NDArray[np.int64]) -> str:
    examples = ", ".join(map(str, lines[:_EXAMPLES].tolist())) + (", ..." if len(lines) > _EXAMPLES else "")
    return f"dropped {len(lines):,} {why} (line{'s' if len(lines) > 1 else ''} {examples})"


def clean(text: ParallelText, cleaning: Cleaning) -> tuple[ParallelText, CleaningReport]:
    """Drop blank, badly matched and repeated pairs. `drop_overlong` checks the length in tokens.

    A pair is counted under the first reason that applies, in that order.
    >>> print(clean(ParallelText(["ja", ""], ["yes", "no"]), Cleaning())[1])
    parallel text: kept 1 of 2 pairs; dropped 1 empty (line 2)

    Raises:
        UserError: no pair is left.
    """
    reasons: dict[str, list[int]] = {EMPTY: [], INVISIBLE: [], "length ratio": [], "duplicate": []}
    kept: list[int] = []
    seen: set[tuple[str, str]] = set()
    ratio = cleaning.max_length_ratio or float("inf")
    for i, pair in enumerate(zip(text.source, text.target, strict=True)):
        shorter, longer = sorted(len(side.strip()) for side in pair)
        if blank := next(filter(None, map(why_blank, pair)), None):
            reasons[blank].append(i)
        elif longer > _RATIO_FROM and longer > ratio * shorter:
            reasons["length ratio"].append(i)
        elif pair in seen:
            reasons["duplicate"].append(i)
        else:
            kept.append(i)
            if cleaning.drop_duplicates:
                seen.add(pair)
    dropped = {why: text.line_numbers[np.array(indices, np.int64)] for why, indices in reasons.items()}
    report = CleaningReport(text.name, len(text), dropped)
    if not kept:
        raise UserError(f"no pair is left to train on: {report}")
    return (text.select(np.array(kept, np.int64)) if report.n_dropped else text), report
