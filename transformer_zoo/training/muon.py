"""Muon (Jordan et al. 2024): momentum with matrix updates that are made orthogonal."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from transformer_zoo.kernels import lists

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
    iteration.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = MOMENTUM,
        ns_steps: int = NS_STEPS,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.ns_steps, self.dtype = ns_steps, dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[torch.Size, torch.device], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape, p.device].append(p)
            for matrices in by_shape.values():
                most = max(1, AT_ONCE // matrices[0].numel())
                for start in range(0, len(matrices), most):
                    self._step_together(matrices[start : start + most], group)

    def _step_together(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in matrices if p.grad is not None]
        momenta = [self._momentum(p) for p in matrices]
        lists.lerp_(momenta, gradients, 1 - group["momentum"])
        updates = lists.lerp(gradients, momenta, group["momentum"])
        shape = matrices[0].shape
        scale = 0.2 * max(shape[-2:]) ** 0.5
        stacked = torch.stack(updates).to(self.dtype).view(-1, *shape[-2:])
        steps = orthogonalize(stacked, self.ns_steps).to(matrices[0].dtype).view(-1, *shape)
        lists.scale_(matrices, 1 - group["lr"] * group["weight_decay"])
        lists.add_(matrices, list(steps), -group["lr"] * scale)

    def _momentum(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        momentum: Tensor = state["momentum"]
        return momentum
