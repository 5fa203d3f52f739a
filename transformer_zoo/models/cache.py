"""What a decoder remembers between steps: each layer's self-attention and its projection of the memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from transformer_zoo.blocks import KVCache, ProjectedMemory


class DecoderCache:
    """One `KVCache` and, with cross-attention, one `ProjectedMemory` a layer. `length` counts a row's tokens.

    A `static` one shows attention its whole capacity at every step, and counts in a tensor only: shapes and Python
    values stay the same, so that a compiled step is compiled once. Whoever uses it minds its capacity.

    `places` are the positions of all slots, (B, capacity) int64, for a model that scores by distance.
    `recent` are the last tokens of each row, (B, n - 1) int64, for a model that embeds n-grams; -1 is none.
    """

    def __init__(
        self,
        layers: Sequence[KVCache],
        memories: Sequence[ProjectedMemory | None],
        *,
        static: bool = False,
    ) -> None:
        self.layers = list(layers)
        self.memories = list(memories)
        self.length = 0
        self.static = static
        self.recent: Tensor | None = None
        self.places: Tensor | None = None

    @property
    def capacity(self) -> int:
        return self.layers[0].capacity

    def reserve(self, n: int) -> None:
        """Make the next n tokens' places visible, and no more: attention is shown what is used.

        Raises:
            ValueError: the cache is full.
        """
        if self.static:
            return
        if self.length + n > self.capacity:
            raise ValueError(f"{self.length + n} tokens do not fit a cache of capacity {self.capacity}")
        start, self.length = self.length, self.length + n
        for layer in self.layers:
            layer.start, layer.visible = start, self.length

    def place(self, positions: Tensor) -> Tensor:
        """Note the newest tokens' positions, (B, T) or (1, T), after `reserve`; returns those of all slots, (B, Tk)."""
        assert self.places is not None, "only a cache for a model that scores by distance knows places"
        layer, n = self.layers[0], positions.size(1)
        self.places.index_copy_(1, layer.slots(n), positions.expand(self.places.size(0), n))
        return self.places[:, : layer.visible]

    def remember(self, ids: Tensor) -> None:
        """Take the newest tokens, (B, T), into `recent`, in place."""
        if self.recent is not None:
            self.recent.copy_(torch.cat([self.recent, ids], dim=1)[:, ids.size(1) :])

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order. rows: (B',) int64."""
        for layer in self.layers:
            layer.select(rows)
        self.recent = None if self.recent is None else self.recent.index_select(0, rows)
        self.places = None if self.places is None else self.places.index_select(0, rows)
        self.memories = [
            None
            if m is None
            else ProjectedMemory(m.keys.index_select(0, rows), m.values.index_select(0, rows))
            for m in self.memories
        ]
