"""Leaks: sentences that are held out, and stand in the training text all the same."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from transformer_zoo.characters import bare, is_blank
from transformer_zoo.data.parallel import ParallelText

Key = tuple[str, object]


@dataclass(frozen=True)
class Shared:
    """How many sources, targets and pairs of a held-out text stand in the training text too."""

    sources: int
    targets: int
    pairs: int

    def __str__(self) -> str:
        return f"{self.sources:,} sources, {self.targets:,} targets, {self.pairs:,} pairs"


@dataclass(frozen=True)
class Leaks:
    """What a held-out text shares with the training text: `exact` letter by letter, `near` by `bare`."""

    of: int
    exact: Shared
    near: Shared

    def __bool__(self) -> bool:
        return self.near != Shared(0, 0, 0)

    def __str__(self) -> str:
        if not self:
            return f"none of its {self.of:,} pairs shares a side with the training text"
        near = f"; {self.near} but for case, punctuation, white space and form (NFKC)" * (self.near != self.exact)
        return f"of its {self.of:,} pairs {self.exact} stand in the training text too{near}"


def find_leaks(train: ParallelText, held_out: Mapping[str, ParallelText]) -> dict[str, Leaks]:
    """How many lines of each text, but for blank sides, stand in `train` too."""
    exact, near = (_shared(train, held_out, form) for form in (str, bare))
    return {name: Leaks(len(text), exact[name], near[name]) for name, text in held_out.items()}


def report_leaks(
    train: ParallelText, held_out: Mapping[str, ParallelText], say: Callable[[str], object]
) -> dict[str, Any]:
    """Says what `find_leaks` finds, and returns it as plain data."""
    leaks = find_leaks(train, held_out)
    for name, found in leaks.items():
        say(f"{'warning: ' if found else ''}{name}: {found}")
    if any(leaks.values()):
        say(
            "warning: what is measured on text that was trained on says little about other text; "
            "`transformer-zoo split` makes splits without leaks"
        )
    return {name: asdict(found) for name, found in leaks.items()}


def _shared(train: ParallelText, held_out: Mapping[str, ParallelText], form: Callable[[str], str]) -> dict[str, Shared]:
    rows = {name: [*_keys(text, form)] for name, text in held_out.items()}
    lines = tqdm(_keys(train, form), desc="leaks", total=len(train), unit=" pairs", disable=None, leave=False)
    wanted = set[Key]().union(*(row for part in rows.values() for row in part))
    found = wanted.intersection(key for row in lines for key in row)
    counts = {name: Counter(what for row in part for what, _ in row & found) for name, part in rows.items()}
    return {name: Shared(count["source"], count["target"], count["pair"]) for name, count in counts.items()}


def _keys(text: ParallelText, form: Callable[[str], str]) -> Iterator[set[Key]]:
    """What source, target and pair are compared by, but for what is blank."""
    for source, target in zip(text.source, text.target, strict=True):
        sides: set[Key] = {
            (what, form(side)) for what, side in (("source", source), ("target", target)) if not is_blank(side)
        }
        yield {*sides, ("pair", frozenset(sides))} if len(sides) == 2 else sides
