"""LayerNorm (Ba et al. 2016) and RMSNorm (Zhang & Sennrich 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.answers import Start
from transformer_zoo.blocks.arguments import check_choice, check_flags, check_positive, check_sizes
from transformer_zoo.kernels.norm import rms_norm


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

    def init_weights(self, start: Start) -> None:
        """Changes nothing at first."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.d_model,), self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.d_model}, eps={self.eps}, affine={self.weight is not None}, bias={self.bias is not None}"


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

    def init_weights(self, start: Start) -> None:
        """Scales by 1 at first."""
        nn.init.constant_(self.weight, 0.0 if self.unit_offset else 1.0)

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
