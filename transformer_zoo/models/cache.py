"""What a decoder remembers between steps: the cache of each layer's self-attention, and its projection of the
memory."""

from collections.abc import Sequence
from copy import copy
from typing import Self

import torch
from torch import Tensor

from transformer_zoo.blocks import KVCache, ProjectedMemory

# Tensors that some caches have, and the names of their dimensions.
_MORE = {"places": {0: "batch", 1: "capacity"}, "recent": {0: "batch"}, "memory_mask": {0: "batch", 3: "source"}}


class DecoderCache:
    """One `KVCache` and, with cross-attention, one `ProjectedMemory` for each layer.

    `places` are the positions of all slots, (B, capacity) int64, for a model that scores by distance.
    `recent` are the last tokens of each row, (B, n - 1) int64, for a model that embeds n-grams; -1 means no token.
    `memory_mask` is (B, 1, 1, Ts) booleans, True for real tokens of the memories; None: all are real.
    >>> DecoderCache([tz.blocks.KVCache.empty(2, 8, 10, 64)], memories=[None]).capacity
    10
    """

    def __init__(self, layers: Sequence[KVCache], memories: Sequence[ProjectedMemory | None]) -> None:
        self.layers = list(layers)
        self.memories = list(memories)
        self.recent: Tensor | None = None
        self._before: Tensor | None = None
        self.places: Tensor | None = None
        self.memory_mask: Tensor | None = None

    @property
    def static(self) -> bool:
        """Whether shapes are the same at every step, as in a `StaticKVCache`."""
        return self.layers[0].static

    @property
    def length(self) -> int:
        """Number of tokens of a row. A static cache does not know it."""
        return self.layers[0].length

    @property
    def capacity(self) -> int:
        return self.layers[0].capacity

    def place(self, positions: Tensor) -> Tensor:
        """Store the next tokens' positions, (B, T) or (1, T); returns those of all slots that will be visible, (B,
        Tk)."""
        assert self.places is not None, "only a cache for a model that scores by distance knows places"
        layer, n = self.layers[0], positions.size(1)
        self.places.index_copy_(1, layer.slots(n), positions.expand(self.places.size(0), n))
        return self.places[:, : layer.n_visible(n)]

    def remember(self, ids: Tensor) -> None:
        """Store the newest tokens, (B, T), in `recent`, in place."""
        if self.recent is not None:
            before = self.recent if self._before is None or self.static else self._before
            self._before = torch.cat([before, ids], dim=1)  # (B, n - 1 + all tokens); static: (B, n - 1 + T)
            self.recent.copy_(self._before[:, -self.recent.size(1) :])

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors of a static cache, its length first: the inputs and outputs of a step that is exported."""
        held = [tensor for layer in self.layers for tensor in layer.held]
        memories = [part for memory in self.memories if memory is not None for part in memory]
        more = [tensor for name in _MORE if (tensor := getattr(self, name)) is not None]
        return [torch.as_tensor(self.length), *held, *memories, *more]

    @property
    def axes(self) -> list[dict[int, str]]:
        """Which dimensions of each of `tensors` are "batch", "capacity" and "source"; the others are the model's."""
        held = [{0: "batch", 2: "capacity"} for layer in self.layers for _ in layer.held]
        memories = [{0: "batch", 2: "source"} for memory in self.memories if memory is not None for _ in memory]
        return [{}, *held, *memories, *(axes for name, axes in _MORE.items() if getattr(self, name) is not None)]

    def holding(self, tensors: Sequence[Tensor]) -> Self:
        """A copy of this cache that holds copies of these tensors, in the order of `tensors`; this cache does not
        change.
        >>> cache = tz.create_model("gpt-nano").new_cache(1, 5, static=True)
        >>> cache.holding([tensor + 1 for tensor in cache.tensors]).length
        tensor(1)
        """
        length, *copies = (tensor.clone() for tensor in tensors)
        given, made = iter(copies), copy(self)
        made.layers = [layer.holding(length.clone(), [next(given) for _ in layer.held]) for layer in self.layers]
        made.memories = [memory and ProjectedMemory(next(given), next(given)) for memory in self.memories]
        for name in _MORE:
            if getattr(self, name) is not None:
                setattr(made, name, next(given))
        return made

    def take(self, other: "DecoderCache", n: int) -> None:
        """Take over the first n tokens of another cache of the same model with as many rows. Neither may be static."""
        for layer, theirs in zip(self.layers, other.layers, strict=True):
            layer.take(theirs, n)
        if self.places is not None and other.places is not None:
            self.places[:, :n] = other.places[:, :n]
        if self.recent is not None and other._before is not None:
            self._before = other._before[:, : self.recent.size(1) + n]
            self.recent.copy_(self._before[:, -self.recent.size(1) :])

    def drop(self, n: int) -> None:
        """Forget the newest n tokens; in a static cache, the n that came last."""
        for layer in self.layers:
            layer.drop(n)
        if self.recent is not None and self._before is not None:
            self._before = self._before[:, : self._before.size(1) - n]
            self.recent.copy_(self._before[:, -self.recent.size(1) :])

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order. rows: (B',) int64."""
        for layer in self.layers:
            layer.select(rows)
        self.recent = None if self.recent is None else self.recent.index_select(0, rows)
        self._before = None if self._before is None else self._before.index_select(0, rows)
        self.places = None if self.places is None else self.places.index_select(0, rows)
        self.memory_mask = None if self.memory_mask is None else self.memory_mask.index_select(0, rows)
        self.memories = [
            memory and ProjectedMemory(*(part.index_select(0, rows) for part in memory)) for memory in self.memories
        ]
