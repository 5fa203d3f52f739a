"""RMSNorm on a CPU, where torch has no kernel for it and differentiates a dozen passes over x."""

from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.kernels.cpu import is_there
from transformer_zoo.kernels.derivatives import differentiate, is_more_asked, is_plain


def formula(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension: x (..., D), weight (D,) or None -> (..., D)."""
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """`formula`. If autocast gives x in 16 bits and a weight in 32, it is computed in 32 bits."""
    if weight is not None and x.dtype != weight.dtype:
        wide = torch.promote_types(x.dtype, weight.dtype)
        return rms_norm(x.to(wide), weight.to(wide), eps).to(x.dtype)
    if x.device.type != "cpu" or x.dtype.itemsize < 4 or not torch.is_grad_enabled() or is_plain():
        return formula(x, weight, eps)
    out: Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return out


class _RMSNorm(torch.autograd.Function):
    """With s = 1 / sqrt(mean(x^2) + eps), dx = s (w g - x s mean(w g x s)), and dw = sum over rows of s g x.

    LayerNorm's kernel computes it for a mean of 0, except for the term -s mean(w g) in dx.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.size(-1))
        scale = mean_square.add_(eps).rsqrt_()  # (..., 1)
        ctx.save_for_backward(x, weight, scale)
        ctx.eps = eps
        out: Tensor = x * scale
        return out if weight is None else out.mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (grad,) = grads
        x, weight, scale = ctx.saved_tensors
        if is_more_asked(grad) or not _has_layer_norm():
            of_x, of_weight = differentiate(partial(formula, eps=ctx.eps), (x, weight), ctx.needs_input_grad[:2], grad)
            return of_x, of_weight, None
        of_x, of_weight = _layer_norm_backward(grad, x, weight, scale)
        rows = grad.reshape(-1, x.size(-1))
        sums = rows.sum(-1) if weight is None else rows @ weight
        mean = sums.view_as(scale).div_(x.size(-1))  # (..., 1), of w g
        return of_x.add_(mean.mul_(scale)), of_weight, None


def _layer_norm_backward(grad: Tensor, x: Tensor, weight: Tensor | None, scale: Tensor) -> Any:
    mean, wanted = torch.zeros_like(scale), (True, weight is not None, False)
    shape = x.shape[-1:]
    return torch.ops.aten.native_layer_norm_backward(grad, x, shape, mean, scale, weight, None, wanted)[:2]


@cache
def _has_layer_norm() -> bool:
    """Whether torch has LayerNorm's gradient as a separate function."""
    one = torch.ones(1, 2, device="cpu", dtype=torch.float32)
    return is_there(lambda: _layer_norm_backward(one, one, one[0], one[:, :1])[1], one)


# Gain over torch's rms_norm, forward and backward (recipes/benchmarks/kernels.py; Intel Xeon with AMX, torch 2.13,
# one thread | two; one machine): (4096, 256) 3.0 | 2.7 in float32, 2.4 | 2.3 in bfloat16; (1024, 768) 2.9 | 2.3 and
# 2.2 | 1.9; (49152, 64) 3.4 | 2.9 and 2.3 | 2.3.
