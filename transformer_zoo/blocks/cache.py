"""What attention remembers between decoding steps. It is an argument, never module state."""

from collections.abc import Sequence
from copy import copy
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from transformer_zoo.blocks.arguments import check_sizes


class ProjectedMemory(NamedTuple):
    """Keys and values of a memory that does not change, projected once: both (B, Hkv, Tk, Dh).
    >>> Attention(512, 8).project_memory(torch.zeros(2, 7, 512)).keys.shape
    torch.Size([2, 8, 7, 64])
    """

    keys: Tensor
    values: Tensor


class KVCache:
    """What one self-attention remembers of each token. It has space for `capacity` tokens a row, and is filled from the
    left.

    Attention sees only the `length` tokens that are in the cache, so shapes grow from step to step.

    Shapes: `held` are tensors (B, heads, capacity, width); neither heads nor widths need be equal. Usually they are
        keys and values, (B, Hkv, capacity, Dh); other kinds of attention hold other tensors.
    >>> KVCache.empty(2, 8, 10, 64).append(torch.zeros(2, 8, 3, 64), torch.zeros(2, 8, 3, 64))[0].shape
    torch.Size([2, 8, 3, 64])
    """

    static: ClassVar[bool] = False

    def __init__(self, *held: Tensor) -> None:
        shapes = [tuple(tensor.shape) for tensor in held]
        if not held or any(len(shape) != 4 or shape[::2] != shapes[0][::2] for shape in shapes):
            raise ValueError(f"a cache of {shapes}: expected tensors (B, heads, capacity, width) of one B and capacity")
        self.held = list(held)
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
        """Keys and values for `capacity` tokens of each of `batch` rows. ValueError: a number is not a valid size."""
        check_sizes(batch=batch, n_kv_heads=n_kv_heads, capacity=capacity, head_dim=head_dim, least=0)
        shape = (batch, n_kv_heads, capacity, head_dim)
        return cls(*(torch.empty(shape, device=device, dtype=dtype) for _ in range(2)))

    @property
    def keys(self) -> Tensor:
        return self.held[0]

    @property
    def values(self) -> Tensor:
        return self.held[1]

    @property
    def capacity(self) -> int:
        return self.held[0].size(2)

    def n_visible(self, n: int) -> int:
        """How many slots attention sees once the next n tokens are in."""
        return self.length + n

    def slots(self, n: int) -> Tensor:
        """The slots of the next n tokens: (n,). ValueError: they do not fit."""
        self._check(n)
        return self.length + torch.arange(n, device=self.held[0].device)

    def next_places(self, n: int) -> tuple[int, Tensor | None]:
        """The positions of the next n tokens if nothing is padding: counted from the first token, or positions (1,
        n)."""
        return self.length, None

    def causal_mask(self, n: int) -> Tensor | None:
        """What the next n tokens may see, each up to its own slot: (n, n_visible); None: everything."""
        if n == 1:
            return None
        return torch.arange(self.n_visible(n), device=self.held[0].device) <= self.slots(n)[:, None]  # (n, n_visible)

    def append(self, *new: Tensor) -> list[Tensor]:
        """Store the next n tokens and return everything that attention sees.

        Args:
            new: a tensor (B, heads, n, width) for each of `held`.

        Returns:
            For each of them, (B, heads, n_visible, width).

        Raises:
            ValueError: they do not fit.
        """
        n = new[0].size(2)
        self._check(n)
        for held, tensor in zip(self.held, new, strict=True):
            held.narrow(2, self.length, n).copy_(tensor)
        self.length += n
        return [held.narrow(2, 0, self.length) for held in self.held]

    def take(self, other: "KVCache", n: int) -> None:
        """Take over the first n tokens of another cache with as many rows."""
        for held, theirs in zip(self.held, other.held, strict=True):
            held[:, :, :n] = theirs[:, :, :n]
        self.length = n

    def holding(self, length: Any, held: Sequence[Tensor]) -> Self:
        """A cache like this one that holds these tensors."""
        made = copy(self)
        made.length, made.held = length, list(held)
        return made

    def drop(self, n: int) -> None:
        """Forget the newest n tokens. ValueError: there are fewer than n."""
        if n > self.length:
            raise ValueError(f"{n} tokens cannot be dropped from a cache of {self.length}")
        self.length -= n

    def _check(self, n: int) -> None:
        if self.length + n > self.capacity:
            raise ValueError(f"{self.length + n} tokens do not fit a cache of capacity {self.capacity}")

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order. rows: (B',) int64.

        Only the rows that change their index are copied, and only the slots that are shown, unless rows multiply (B' >
        B).
        """
        n, shown = rows.numel(), self.n_visible(0)
        if n > self.held[0].size(0):
            self.held = [held.index_select(0, rows) for held in self.held]
            return
        moved = (rows != torch.arange(n, device=rows.device)).nonzero()[:, 0]
        for held in self.held:
            held[moved, :, :shown] = held[rows[moved], :, :shown]
        self.held = [held[:n] for held in self.held]


class StaticKVCache(KVCache):
    """A cache that shows attention its whole capacity, behind a mask, and keeps its length in a tensor.

    Shapes and Python numbers stay the same from step to step, so a step is compiled or captured only once. The caller
    must respect the capacity: reading `length`, () int64, here would stall a GPU.
    >>> StaticKVCache.empty(2, 8, 10, 64).append(torch.zeros(2, 8, 3, 64), torch.zeros(2, 8, 3, 64))[0].shape
    torch.Size([2, 8, 10, 64])
    """

    static = True
    length: Tensor  # type: ignore[assignment]

    def __init__(self, *held: Tensor) -> None:
        super().__init__(*(tensor.zero_() for tensor in held))  # a NaN in a slot not yet written would survive a mask
        self.length = torch.zeros((), dtype=torch.int64, device=held[0].device)

    def n_visible(self, n: int) -> int:
        return self.capacity

    def next_places(self, n: int) -> tuple[int, Tensor]:
        return 0, self.slots(n)[None]

    def causal_mask(self, n: int) -> Tensor:
        return torch.arange(self.capacity, device=self.held[0].device) <= self.slots(n)[:, None]  # (n, capacity)

    def drop(self, n: int) -> None:
        self.length -= n

    def append(self, *new: Tensor) -> list[Tensor]:
        n = new[0].size(2)
        self._check(n)
        slots = self.slots(n)
        for held, tensor in zip(self.held, new, strict=True):
            held.index_copy_(2, slots, tensor.to(held.dtype))
        self.length += n
        return self.held

    def _check(self, n: int) -> None:
        if n > self.capacity:
            raise ValueError(f"{n} tokens do not fit a cache of capacity {self.capacity}")
