"""LayerNorm (Ba et al. 2016) and RMSNorm (Zhang & Sennrich 2019)."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_choice, check_flags, check_positive, check_sizes
from transformer_zoo.kernels.derivatives import differentiate, is_more_asked, is_plain


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimension; the bias is optional.

    Without `affine` there is neither weight nor bias.

    Shapes: (..., D) -> (..., D).
    """

    def __init__(self, d_model: int, *, eps: float = 1e-5, bias: bool = True, affine: bool = True) -> None:
        super().__init__()
        check_sizes(d_model=d_model)
        check_positive(eps=eps)
        check_flags(bias=bias, affine=affine)
        self.d_model, self.eps = d_model, eps
        self.weight = nn.Parameter(torch.ones(d_model)) if affine else None
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias and affine else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.d_model,), self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.d_model}, eps={self.eps}, affine={self.weight is not None}, bias={self.bias is not None}"


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight: x (..., D), weight (D,) -> (..., D).

    Where autocast gives x in 16 bits to a weight in 32, it is computed in 32: torch's kernels take both in one dtype.
    """
    if x.dtype != weight.dtype:
        wide = torch.promote_types(x.dtype, weight.dtype)
        return rms_norm(x.to(wide), weight.to(wide), eps).to(x.dtype)
    if x.device.type == "cpu" and x.dtype.itemsize >= 4 and torch.is_grad_enabled() and not is_plain():
        out: Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
        return out
    return _rms_norm(x, weight, eps)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, eps)


class _RMSNorm(torch.autograd.Function):
    """On a CPU torch has no kernel of its own, and differentiates a dozen passes over x; by hand it is half of them.

    With s = 1 / sqrt(mean(x^2) + eps), dx = s (w g - x s mean(w g x s)), and dw = sum over rows of s g x. It is what
    LayerNorm's kernel computes for a mean of 0, but for -s mean(w g) in dx.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.size(-1))
        scale = mean_square.add_(eps).rsqrt_()  # (..., 1)
        ctx.save_for_backward(x, weight, scale)
        ctx.eps = eps
        out: Tensor = x * scale
        return out.mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (grad,) = grads
        x, weight, scale = ctx.saved_tensors
        if is_more_asked(grad):
            formula = partial(_rms_norm, eps=ctx.eps)
            grad_x, grad_weight = differentiate(formula, (x, weight), ctx.needs_input_grad[:2], grad)
            return grad_x, grad_weight, None
        grad_x, grad_weight, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, weight.shape, torch.zeros_like(scale), scale, weight, None, (True, True, False)
        )
        mean = (grad.reshape(-1, x.size(-1)) @ weight).view_as(scale).div_(x.size(-1))  # (..., 1), of w g
        return grad_x.add_(mean.mul_(scale)), grad_weight, None


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, equation 4 of the paper.

    With `unit_offset` it multiplies by 1 + weight, and the weight starts at zero, as in Gemma.

    Shapes: (..., D) -> (..., D).
    """

    def __init__(self, d_model: int, *, eps: float = 1e-6, unit_offset: bool = False) -> None:
        super().__init__()
        check_sizes(d_model=d_model)
        check_positive(eps=eps)
        check_flags(unit_offset=unit_offset)
        self.eps, self.unit_offset = eps, unit_offset
        self.weight = nn.Parameter(torch.zeros(d_model) if unit_offset else torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        if not self.unit_offset:
            return rms_norm(x, self.weight, self.eps)
        # In 16 bits 1 + weight would lose what the weight has: wider there.
        wide = torch.promote_types(x.dtype, torch.float32)
        return rms_norm(x.to(wide), 1 + self.weight.to(wide), self.eps).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, eps={self.eps}"


def build_norm(
    kind: str,
    d_model: int,
    *,
    eps: float = 1e-5,
    bias: bool = True,
    affine: bool = True,
    unit_offset: bool = False,
) -> nn.Module:
    """The norm called "layernorm" (see there for bias and affine) or "rmsnorm" (unit_offset): (..., D) -> (..., D).

    Raises:
        ValueError: another name, or what a norm of this name does not have.
    """
    check_choice(("layernorm", "rmsnorm"), norm=kind)
    check_flags(bias=bias, affine=affine, unit_offset=unit_offset)
    if kind == "layernorm":
        if unit_offset:
            raise ValueError("unit_offset is for rmsnorm: layernorm starts from a weight of 1")
        return LayerNorm(d_model, eps=eps, bias=bias, affine=affine)
    if not (bias and affine):
        raise ValueError("bias and affine are for layernorm: rmsnorm has a weight, and never a bias")
    return RMSNorm(d_model, eps=eps, unit_offset=unit_offset)
