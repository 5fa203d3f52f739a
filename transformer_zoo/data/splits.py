"""Splits whose held-out parts do not occur in the training text, and leaks in other splits."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from transformer_zoo.characters import bare, is_blank
from transformer_zoo.data.parallel import ParallelText
from transformer_zoo.errors import UserError

Row = tuple[str, ...]
Key = tuple[str, object]
TRAIN = "train"


def digest(text: str) -> int:
    """A number below 2^64 that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def keys(row: Row) -> tuple[int, ...]:
    """The forms in which the sides of a row are compared; near-copies have the same form."""
    return tuple(digest(bare(side)) for side in row)


def assign(rows: Sequence[tuple[int, ...]], held_out: Mapping[str, float]) -> list[str | None]:
    """The split of each row, which is given by its `keys`; None for a row that would leak.

    Rows with the same first side go together. The order of its digest decides, so that a split stays when other rows
    are added. If rows share another side with an earlier split, those in later splits are left out; `train` comes last.

    `held_out` says how many rows each split gets, or, below 1, which share of first sides. All are of one kind.

    UserError: there are too few rows, or none is left to train on.
    """
    groups: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row[0], []).append(index)
    place: list[str | None] = [None] * len(rows)
    taken: set[tuple[int, int]] = set()  # (side, key) of the rows held out so far
    bound = 0.0
    for name, size in {**held_out, TRAIN: len(rows)}.items():
        bound += size
        chosen: list[int] = []
        for key in sorted(groups):
            if len(chosen) >= size >= 1 or (size < 1 and key >= bound * 2**64):
                break
            free = [index for index in groups[key] if taken.isdisjoint(enumerate(rows[index]))]
            chosen += free[: int(size) - len(chosen)] if size >= 1 else free
            if free:
                del groups[key]
        if name != TRAIN and not size <= max(len(chosen), 1):
            raise UserError(f"{name}: {len(chosen):,} can be held out of {len(rows):,}, not {size:g}; ask for fewer")
        for index in chosen:
            place[index] = name
        taken.update(pair for index in chosen for pair in enumerate(rows[index]))
    for name in (*held_out, TRAIN):
        if name not in place:
            raise UserError(f"nothing of {len(rows):,} is left for {name}; hold out other shares, or fewer")
    return place


def split_pairs(
    pairs: Iterable[tuple[str, str]], held_out: Mapping[str, float]
) -> tuple[dict[str, list[tuple[str, str]]], dict[str, int]]:
    """The pairs of each split, in an order unrelated to their own, and how many were dropped for each reason.

    A pair with a blank side is dropped, and so is a repeated pair. `held_out` and errors are those of `assign`.
    """
    dropped = {"blank": 0, "repeated": 0, "with a side that is held out": 0}
    kept: dict[tuple[str, str], None] = {}
    for pair in pairs:
        if any(map(is_blank, pair)):
            dropped["blank"] += 1
        elif pair in kept:
            dropped["repeated"] += 1
        else:
            kept[pair] = None
    parts: dict[str, list[tuple[str, str]]] = {name: [] for name in (TRAIN, *held_out)}
    for pair, name in zip(kept, assign(list(map(keys, kept)), held_out), strict=True):
        if name is None:
            dropped["with a side that is held out"] += 1
        else:
            parts[name].append(pair)
    return {name: sorted(part, key=lambda pair: digest("\t".join(pair))) for name, part in parts.items()}, dropped


@dataclass(frozen=True)
class Shared:
    """How many sources, targets and pairs of a held-out text are also in the training text."""

    sources: int
    targets: int
    pairs: int

    def __str__(self) -> str:
        return f"{self.sources:,} sources, {self.targets:,} targets, {self.pairs:,} pairs"


@dataclass(frozen=True)
class Leaks:
    """What a held-out text shares with the training text: `exact` in all letters, `near` by `bare`."""

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
    """How many lines of each text, without blank sides, are also in `train`."""
    exact, near = (_shared(train, held_out, form) for form in (str, bare))
    return {name: Leaks(len(text), exact[name], near[name]) for name, text in held_out.items()}


def report_leaks(
    train: ParallelText, held_out: Mapping[str, ParallelText], say: Callable[[str], object]
) -> dict[str, Any]:
    """Print the result of `find_leaks`, and return it as plain data."""
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
    """The forms in which source, target and pair are compared, without blank ones."""
    for source, target in zip(text.source, text.target, strict=True):
        sides: set[Key] = {
            (what, form(side)) for what, side in (("source", source), ("target", target)) if not is_blank(side)
        }
        yield {*sides, ("pair", frozenset(sides))} if len(sides) == 2 else sides
