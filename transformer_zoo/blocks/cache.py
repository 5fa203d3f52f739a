"""What attention remembers between decoding steps: an argument, never module state."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from transformer_zoo.blocks.arguments import check_sizes


class ProjectedMemory(NamedTuple):
    """Keys and values of a memory that does not change, projected once: both (B, Hkv, Tk, Dh)."""

    keys: Tensor
    values: Tensor


class KVCache:
    """Keys and values of one self-attention: room for `capacity` tokens a row, filled from the left.

    Attention is shown the `length` tokens that are in it, so that shapes grow from step to step.

    Shapes: keys and values (B, Hkv, capacity, Dh).
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        if keys.dim() != 4 or keys.shape != values.shape:
            raise ValueError(
                f"keys {tuple(keys.shape)} and values {tuple(values.shape)}: expected both (B, Hkv, capacity, Dh)"
            )
        self.keys, self.values = keys, values
        self.length = 0

    @classmethod
    def empty(
        cls,
        batch: int,
        n_kv_heads: int,
        capacity: int,
        head_dim: int,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """A cache for `capacity` tokens of each of `batch` rows. ValueError: a number that is no size."""
        check_sizes(batch=batch, n_kv_heads=n_kv_heads, capacity=capacity, head_dim=head_dim, least=0)
        shape = (batch, n_kv_heads, capacity, head_dim)
        return cls(*(torch.empty(shape, device=device, dtype=dtype) for _ in range(2)))

    @property
    def capacity(self) -> int:
        return self.keys.size(2)

    def n_visible(self, n: int) -> int:
        """How many slots attention is shown with the next n tokens."""
        return self.length + n

    def slots(self, n: int) -> Tensor:
        """Where the next n tokens go: (n,). ValueError: they do not fit."""
        self._check(n)
        return self.length + torch.arange(n, device=self.keys.device)

    def causal_mask(self, n: int) -> Tensor | None:
        """What the next n tokens may see, each up to its own slot: (n, n_visible); None: all."""
        if n == 1:
            return None
        return torch.arange(self.n_visible(n), device=self.keys.device) <= self.slots(n)[:, None]  # (n, n_visible)

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the next n tokens and return all that attention is shown.

        Args:
            keys, values: (B, Hkv, n, Dh).

        Returns:
            keys and values, (B, Hkv, n_visible, Dh).

        Raises:
            ValueError: they do not fit.
        """
        n = keys.size(2)
        self._check(n)
        self.keys.narrow(2, self.length, n).copy_(keys)
        self.values.narrow(2, self.length, n).copy_(values)
        self.length += n
        return self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)

    def drop(self, n: int) -> None:
        """Forget the newest n tokens. ValueError: there are fewer."""
        if n > self.length:
            raise ValueError(f"{n} tokens cannot be dropped from a cache of {self.length}")
        self.length -= n

    def _check(self, n: int) -> None:
        if self.length + n > self.capacity:
            raise ValueError(f"{self.length + n} tokens do not fit a cache of capacity {self.capacity}")

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order. rows: (B',) int64.

        Unless rows multiply (B' > B), only those that change their place are copied, as far as they are shown.
        """
        n, shown = rows.numel(), self.n_visible(0)
        if n > self.keys.size(0):
            self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)
            return
        moved = (rows != torch.arange(n, device=rows.device)).nonzero()[:, 0]
        for held in (self.keys, self.values):
            held[moved, :, :shown] = held[rows[moved], :, :shown]
        self.keys, self.values = self.keys[:n], self.values[:n]


class StaticKVCache(KVCache):
    """One that shows attention its whole capacity, behind a mask, and counts in a tensor.

    Shapes and Python's numbers stay the same from step to step: a step is compiled once, or captured. Whoever uses it
    minds its capacity: to look at `length`, () int64, would stall a GPU.
    """

    length: Tensor  # type: ignore[assignment]

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__(keys.zero_(), values.zero_())  # a NaN in a slot not yet written would survive a mask
        self.length = torch.zeros((), dtype=torch.int64, device=keys.device)

    def n_visible(self, n: int) -> int:
        return self.capacity

    def causal_mask(self, n: int) -> Tensor:
        return torch.arange(self.capacity, device=self.keys.device) <= self.slots(n)[:, None]  # (n, capacity)

    def drop(self, n: int) -> None:
        self.length -= n

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        n = keys.size(2)
        self._check(n)
        slots = self.slots(n)
        self.keys.index_copy_(2, slots, keys.to(self.keys.dtype))
        self.values.index_copy_(2, slots, values.to(self.values.dtype))
        self.length += n
        return self.keys, self.values

    def _check(self, n: int) -> None:
        if n > self.capacity:
            raise ValueError(f"{n} tokens do not fit a cache of capacity {self.capacity}")
