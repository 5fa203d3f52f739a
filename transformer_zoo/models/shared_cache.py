"""A cache whose rows come and go independently. Many texts that begin at different times are written with it.

Shapes: B rows, L slots that are in use.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.blocks import ProjectedMemory
from transformer_zoo.models.cache import DecoderCache

_SLOTS = 64  # the space grows by half, to a multiple of this
ROOM = 1.25 * 1.5
"""The capacity, at most, as a multiple of the longest row's slots."""


class SharedCache(DecoderCache):
    """All rows end at the same slot and begin at slots of their own, so the next token of each goes to the same slot.

    A new row is moved so that it ends where the others end; if it is longer, the others are moved. Slots before all
    rows are given back. So slots are never more than the longest row needs, or a quarter more while rows leave, and the
    capacity is at most half as much again.
    >>> SharedCache(tz.create_model("gpt-nano").new_cache(1, 5), most=4).starts
    []

    Args:
        like: a cache of the model that is not static.
        most: number of rows at once, at most.

    Attributes:
        starts: the first slot of each row.
    """

    def __init__(self, like: DecoderCache, most: int) -> None:
        super().__init__([layer.holding(0, layer.held) for layer in like.layers], like.memories)
        self.starts: list[int] = []
        self.room = [
            [held.new_empty(most, held.size(1), 0, held.size(3)) for held in layer.held] for layer in like.layers
        ]
        self.all_places = None if like.places is None else like.places.new_zeros(most, 0)
        self._show()

    def join(self, other: DecoderCache, lengths: Sequence[int]) -> None:
        """Add the rows of a cache that was filled separately. lengths: how many of its last slots count in each row."""
        end = max(self.length if self.starts else 0, other.length)
        self._join_memories(other)
        self._reserve(end)
        self._move(end)
        first, start = len(self.starts), end - other.length
        rows = slice(first, first + len(lengths))
        for room, theirs in zip(self.room, other.layers, strict=True):
            for held, new in zip(room, theirs.held, strict=True):
                held[rows, :, :start] = 0  # a NaN that was left there would survive a mask
                held[rows, :, start:end] = new[:, :, : other.length]
        if self.all_places is not None and other.places is not None:
            self.all_places[rows, start:end] = other.places[:, : other.length]
        if other.recent is not None:
            self.recent = other.recent if self.recent is None or not first else torch.cat([self.recent, other.recent])
            self._before = None
        self.starts += [end - length for length in lengths]
        self._show()

    def select(self, rows: Tensor) -> None:
        super().select(rows)
        self.starts = [self.starts[row] for row in rows.tolist()]
        if self.all_places is not None and self.places is not None:
            self.all_places[: len(self.starts)] = self.places
        self._show()
        least = min(self.starts, default=0)
        if 4 * least > self.length - least:
            self.give_back()

    def make_room(self, n: int) -> None:
        """Prepare for the next n tokens."""
        if self.length + n > self.capacity:
            self.give_back()
            self._reserve(self.length + n)

    def give_back(self) -> None:
        """Free the slots before all rows."""
        self._move(self.length - min(self.starts, default=0))

    def mask(self, n: int) -> Tensor | None:
        """What the next n tokens may see, (B, L + n) booleans: the slots of their own row; None: all."""
        if not any(self.starts):
            return None
        device = self.layers[0].held[0].device
        return torch.arange(self.length + n, device=device) >= torch.tensor(self.starts, device=device)[:, None]

    def _reserve(self, slots: int) -> None:
        """Make space for this many slots."""
        capacity = self.room[0][0].size(2)
        if slots <= capacity:
            return
        missing = -(-max(slots, capacity * 3 // 2) // _SLOTS) * _SLOTS - capacity
        for room in self.room:
            room[:] = [F.pad(held, (0, 0, 0, missing)) for held in room]
        if self.all_places is not None:
            self.all_places = F.pad(self.all_places, (0, missing))
        self._show()

    def _move(self, end: int) -> None:
        """Move all rows so that they end at another slot."""
        by = end - (self.length if self.starts else end)
        source, target = (slice(max(0, -by), end - by), slice(max(0, by), end))
        if by:
            for held in (held for room in self.room for held in room):
                held[: len(self.starts), :, target] = held[: len(self.starts), :, source].clone()
            if self.all_places is not None:
                self.all_places[: len(self.starts), target] = self.all_places[: len(self.starts), source].clone()
        self.starts = [start + by for start in self.starts]
        for layer in self.layers:
            layer.length = end

    def _show(self) -> None:
        """Give the layers the rows that exist."""
        n = len(self.starts)
        for layer, room in zip(self.layers, self.room, strict=True):
            layer.held = [held[:n] for held in room]
        self.places = None if self.all_places is None else self.all_places[:n]

    def _join_memories(self, other: DecoderCache) -> None:
        """Sources side by side, as wide as the longest one present."""
        if all(memory is None for memory in other.memories):
            return
        parts = [one for one, rows in ((self, len(self.starts)), (other, 1)) if rows]
        real = [_real_sources(one) for one in parts]  # (B, Ts) each
        width = max(int(mask.sum(1).max()) for mask in real)
        mask = torch.cat([_to_width(mask[:, None, :, None], width)[:, 0, :, 0] for mask in real])
        self.memory_mask = None if bool(mask.all()) else mask[:, None, None]
        for i in range(len(self.memories)):
            pairs = [memory for one in parts if (memory := one.memories[i]) is not None]
            keys, values = (torch.cat([_to_width(x, width) for x in both]) for both in zip(*pairs, strict=True))
            self.memories[i] = ProjectedMemory(keys, values)


def _real_sources(cache: DecoderCache) -> Tensor:
    """(B, Ts) booleans, True for tokens that are not padding."""
    memory = next(memory for memory in cache.memories if memory is not None)
    if cache.memory_mask is None:
        return memory.keys.new_ones(memory.keys.size(0), memory.keys.size(2), dtype=torch.bool)
    return cache.memory_mask[:, 0, 0]


def _to_width(x: Tensor, width: int) -> Tensor:
    """(B, H, T, W), cut or padded to another T."""
    return F.pad(x, (0, 0, 0, width - x.size(2)))
