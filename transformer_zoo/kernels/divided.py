"""Weights of which each process has some rows, and the exchanges of processes that share a layer.

Shapes: V rows of all processes, R of this one, D width. Such weights need `torch.distributed.tensor`.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def is_divided(weight: Tensor) -> bool:
    """Whether processes share its rows. A DTensor is divided; in compiled code nothing is."""
    return not torch.compiler.is_compiling() and hasattr(weight, "device_mesh")


def spread(x: Tensor, mesh: Any) -> Tensor:
    """x, the same in all processes, for work that each does alone: its gradient is the sum of their gradients."""
    from torch.distributed.tensor import DTensor, Partial, Replicate

    return DTensor.from_local(x, mesh, [Replicate()]).to_local(grad_placements=[Partial()])


def summed(x: Tensor, mesh: Any) -> Tensor:
    """The sum over processes, for work that all do alike: each term gets the gradient of the sum."""
    from torch.distributed.tensor import DTensor, Partial, Replicate

    return DTensor.from_local(x, mesh, [Partial()]).redistribute(placements=[Replicate()]).to_local()


class Rows:
    """This process's rows of a divided weight: `own`, (R, D), from row `first` on."""

    def __init__(self, weight: Any) -> None:
        self.mesh, self.own = weight.device_mesh, weight.to_local()
        self.first: int = self.mesh.get_local_rank() * len(self.own)

    def of(self, bias: Tensor | None) -> Tensor | None:
        """The elements (R,) for these rows, from a vector (V,) that every process has whole."""
        return None if bias is None else spread(bias, self.mesh)[self.first :][: len(self.own)]

    def divided(self, own: Tensor) -> Tensor:
        """The weight (V, D) of which this process has these rows (R, D)."""
        from torch.distributed.tensor import DTensor, Shard

        return DTensor.from_local(own, self.mesh, [Shard(0)])

    def total(self, x: Tensor) -> Tensor:
        """The sum over all processes, in place and without gradient."""
        dist.all_reduce(x, group=self.mesh.get_group())
        return x

    def log_z(self, scores: Tensor) -> Tensor:
        """log of the sum of exp over all V scores of a token, (N, 1); this process has the scores (N, R)."""
        top = scores.amax(-1, keepdim=True)
        dist.all_reduce(top, op=dist.ReduceOp.MAX, group=self.mesh.get_group())
        return top + self.total((scores - top).exp().sum(-1, keepdim=True)).log()


def look_up(ids: Tensor, weight: Tensor, pad_id: int | None) -> Tensor:
    """Rows of a weight (V, D), ids (...) -> (..., D); the row of `pad_id` receives no gradient.

    If the rows are divided, each process looks up its own rows, and the results are added.
    """
    if not is_divided(weight):
        return F.embedding(ids, weight, pad_id)
    rows = Rows(weight)
    places, n = ids - rows.first, len(rows.own)
    pad = None if pad_id is None or not 0 <= pad_id - rows.first < n else pad_id - rows.first
    here = (places >= 0) & (places < n)
    return summed(F.embedding(places.clamp(0, n - 1), rows.own, pad) * here[..., None], rows.mesh)


def with_fixed_row(weight: Tensor, row: int) -> Tensor:
    """The weight (V, D), one row of which receives no gradient."""
    rows = Rows(weight) if is_divided(weight) else None
    own, first = (weight, 0) if rows is None else (rows.own, rows.first)
    is_fixed = torch.arange(first, first + len(own), device=own.device) == row
    fixed = torch.where(is_fixed[:, None], own.detach(), own)
    return fixed if rows is None else rows.divided(fixed)
