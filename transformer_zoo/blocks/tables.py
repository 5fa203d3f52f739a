"""Tables that are not weights: numbers that follow from a module's arguments and are computed once."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class Tables(nn.Module):
    """A module with tables, which are not saved and never lost.

    Tables stay float32 whatever type the module is converted to, so nothing is rounded for good. They are computed
    again where memory comes without values: on torch's meta device, by `to_empty`, by weights that were assigned.

    Attributes:
        dtype: the type that the module was converted to.
    """

    dtype: torch.dtype = torch.float32

    def tables(self, device: torch.device | None) -> dict[str, Tensor]:
        """Every table, by its name."""
        raise NotImplementedError

    def compute_tables(self, device: torch.device | None = None) -> None:
        """Compute the tables on this device; None: on the one where modules are made."""
        for name, table in self.tables(device).items():
            self.register_buffer(name, table, persistent=False)

    def bring_to(self, device: torch.device) -> None:
        """A module that will be used on this device gets its tables there."""
        if next(self.buffers()).device != device:
            self.compute_tables(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> Self:
        moved = fn(torch.empty(0, dtype=self.dtype, device=next(self.buffers()).device))
        super()._apply(fn, *args, **options)  # type: ignore[no-untyped-call]
        self.dtype = moved.dtype
        self.compute_tables(moved.device)
        return self
