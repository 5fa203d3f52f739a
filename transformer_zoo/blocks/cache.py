"""What attention remembers between decoding steps: an argument, never module state."""

from typing import NamedTuple, Self

import torch
from torch import Tensor


class ProjectedMemory(NamedTuple):
    """Keys and values of a memory that does not change, projected once: both (B, Hkv, Tk, Dh)."""

    keys: Tensor
    values: Tensor


class KVCache:
    """Keys and values of one self-attention, preallocated and filled from the left.

    `length` is a tensor, so that a compiled step writes at a new place without being compiled again. Attention is shown
    the first `visible` slots: all of them keep shapes fixed; those in use are less work where shapes may change. Then
    `start` says to Python where the next tokens go, in place of `length`, which stays as it is: less work once more.

    Shapes: keys and values (B, Hkv, capacity, Dh); length () int64.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys
        self.values = values
        self.length = torch.zeros((), dtype=torch.int64, device=keys.device)
        self.visible = self.capacity
        self.start: int | None = None

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
        zeroed: bool = True,
    ) -> Self:
        """A cache for `capacity` tokens of each of `batch` rows.

        zeroed: where attention is shown slots that are not written: a NaN in them would survive a mask.
        """
        new = torch.zeros if zeroed else torch.empty
        shape = (batch, n_kv_heads, capacity, head_dim)
        return cls(*(new(shape, device=device, dtype=dtype) for _ in range(2)))

    @property
    def capacity(self) -> int:
        return self.keys.size(2)

    def slots(self, n: int) -> Tensor:
        """Where the next n tokens go: (n,)."""
        first = self.length if self.start is None else self.start
        return first + torch.arange(n, device=self.keys.device)

    def causal_mask(self, n: int) -> Tensor | None:
        """What the next n tokens may see, each up to its own slot: (n, visible); None: all that is visible."""
        if self.start is not None and n == 1:
            return None
        return torch.arange(self.visible, device=self.keys.device) <= self.slots(n)[:, None]  # (n, visible)

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the next n tokens and return everything attention is shown.

        Args:
            keys, values: (B, Hkv, n, Dh).

        Returns:
            keys and values, (B, Hkv, visible, Dh), slots not yet written included.

        Raises:
            ValueError: more tokens at once than the cache holds.
        """
        n = keys.size(2)
        if n > self.capacity:
            raise ValueError(f"{n} tokens do not fit a cache of capacity {self.capacity}")
        if self.start is not None:
            self.keys.narrow(2, self.start, n).copy_(keys)
            self.values.narrow(2, self.start, n).copy_(values)
        else:
            slots = self.slots(n)
            self.keys.index_copy_(2, slots, keys.to(self.keys.dtype))
            self.values.index_copy_(2, slots, values.to(self.values.dtype))
            self.length += n
        return self.keys.narrow(2, 0, self.visible), self.values.narrow(2, 0, self.visible)

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order. rows: (B',) int64.

        Unless rows multiply (B' > B), only those that change their place are copied, as far as they are shown.
        """
        n = rows.numel()
        if n > self.keys.size(0):
            self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)
            return
        moved = (rows != torch.arange(n, device=rows.device)).nonzero()[:, 0]
        for held in (self.keys, self.values):
            held[moved, :, : self.visible] = held[rows[moved], :, : self.visible]
        self.keys, self.values = self.keys[:n], self.values[:n]
