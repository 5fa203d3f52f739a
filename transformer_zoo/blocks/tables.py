"""Tables that weights do not say: numbers that follow from a module's arguments, computed once."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class Tables(nn.Module):
    """A module with tables, which are neither saved nor lost.

    They are float32 whatever type the module is brought to, so that nothing is rounded for good; and they are computed
    again wherever memory came without them: on torch's meta device, by `to_empty`, by weights that were assigned.

    Attributes:
        dtype: what the module was brought to.
    """

    dtype: torch.dtype = torch.float32

    def tables(self, device: torch.device | None) -> dict[str, Tensor]:
        """Every table, by its name."""
        raise NotImplementedError

    def compute_tables(self, device: torch.device | None = None) -> None:
        """On this device; None: the one where modules are made."""
        for name, table in self.tables(device).items():
            self.register_buffer(name, table, persistent=False)

    def bring_to(self, device: torch.device) -> None:
        """What is to be used there has its tables there."""
        if next(self.buffers()).device != device:
            self.compute_tables(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> Self:
        moved = fn(torch.empty(0, dtype=self.dtype, device=next(self.buffers()).device))
        super()._apply(fn, *args, **options)  # type: ignore[no-untyped-call]
        self.dtype = moved.dtype
        self.compute_tables(moved.device)
        return self
