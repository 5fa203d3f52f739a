"""Muon (Jordan et al. 2024): momentum with matrix updates that are made orthogonal."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from transformer_zoo.kernels import lists
from transformer_zoo.training.layout import Layout

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
AT_ONCE = 1 << 26
"""Number of elements of the matrices that are iterated together; each takes some 14 bytes meanwhile."""
MOMENTUM, NS_STEPS = 0.95, 5


def orthogonalize(matrices: Tensor, steps: int = NS_STEPS) -> Tensor:
    """Replace all singular values by values near 1, by a quintic Newton-Schulz iteration.

    Args:
        matrices: (N, R, C), iterated in their own dtype.

    Returns:
        (N, R, C): for each matrix U S V^T about U V^T, with singular values from 0.7 to 1.2.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(Optimizer):
    """Nesterov momentum, made orthogonal, and scaled so that one learning rate serves Adam and Muon alike.

    A matrix moves by lr * 0.2 * sqrt(max(R, C)) times an orthogonal one, which has the root mean square of Adam's steps
    (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2). `torch.optim.Muon` computes the same, one
    matrix at a time and always in bfloat16, which is slow on a CPU without such instructions. Here matrices of one
    shape are iterated together. The parameters are matrices (..., R, C), or groups of them; `dtype` is that of the
    iteration. Processes that divide the matrices by `layout` also divide the iteration: one of them has the whole
    matrix meanwhile.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = MOMENTUM,
        ns_steps: int = NS_STEPS,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
        layout: Layout | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.ns_steps, self.dtype, self.layout = ns_steps, dtype, layout or Layout()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[torch.Size, torch.device], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[self.layout.shape(p), p.device].append(p)
            done = 0
            for (shape, _), matrices in by_shape.items():
                most = max(1, AT_ONCE // shape.numel())
                for start in range(0, len(matrices), most):
                    self._step_together(matrices[start : start + most], group, done + start)
                done += len(matrices)

    def _step_together(self, matrices: list[Tensor], group: dict[str, Any], done: int) -> None:
        gradients = [p.grad for p in matrices if p.grad is not None]
        momenta = [self._momentum(p) for p in matrices]
        lists.lerp_(momenta, gradients, 1 - group["momentum"])
        updates = lists.lerp(gradients, momenta, group["momentum"])
        scale = 0.2 * max(self.layout.shape(matrices[0])[-2:]) ** 0.5
        steps = self.layout.computed(self._orthogonal, updates, matrices, done)
        lists.scale_(matrices, 1 - group["lr"] * group["weight_decay"])
        lists.add_(matrices, steps, -group["lr"] * scale)

    def _orthogonal(self, updates: list[Tensor]) -> list[Tensor]:
        shape = updates[0].shape
        stacked = torch.stack(updates).to(self.dtype).view(-1, *shape[-2:])
        return list(orthogonalize(stacked, self.ns_steps).to(updates[0].dtype).view(-1, *shape))

    def _momentum(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        momentum: Tensor = state["momentum"]
        return momentum
