"""Splits in which nothing that is held out was seen: what goes to train, validation and test."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from transformer_zoo.characters import bare, is_blank
from transformer_zoo.errors import UserError

Row = tuple[str, ...]
TRAIN = "train"


def digest(text: str) -> int:
    """A number below 2^64 that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def keys(row: Row) -> tuple[int, ...]:
    """What each side of a row is compared by: near-copies have the same."""
    return tuple(digest(bare(side)) for side in row)


def assign(rows: Sequence[tuple[int, ...]], held_out: Mapping[str, float]) -> list[str | None]:
    """The split of each row, which is given by its `keys`; None for one that would leak.

    Rows with the same first side go together, by the order of its digest, so that a split stays when others are added.
    Of rows that share another side with an earlier split, those in later ones are left out; `train` comes last.

    `held_out` says how many rows each split gets, or, below 1, the share of first sides. All of one kind.

    UserError: there are not so many rows, or none is left to train on.
    """
    groups: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row[0], []).append(index)
    place: list[str | None] = [None] * len(rows)
    taken: set[tuple[int, int]] = set()  # (side, key) of what is held out so far
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
    """The pairs of each split in an order that has nothing to do with theirs, and how many were dropped for what.

    One with a blank side is dropped, and so is a repeated one. `held_out` and errors are those of `assign`.
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
