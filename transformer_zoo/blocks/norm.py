"""LayerNorm (Ba et al. 2016) and RMSNorm (Zhang & Sennrich 2019), and norms over the heads of attention."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_choice, check_flags, check_positive, check_sizes
from transformer_zoo.kernels.norm import rms_norm


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimension; the bias is optional.

    There is neither weight nor bias if `affine` is false. If `unit_offset` is true, the factor is 1 + weight, and the
    weight starts at zero.

    Shapes: (..., D) -> (..., D).
    >>> LayerNorm(2)(torch.tensor([1.0, 3.0])).round().tolist()
    [-1.0, 1.0]
    """

    unit_offset = False

    def __init__(
        self, d_model: int, *, eps: float = 1e-5, bias: bool = True, affine: bool = True, unit_offset: bool = False
    ) -> None:
        _check_norm(d_model, eps, affine=affine, unit_offset=unit_offset)
        check_flags(bias=bias)
        super().__init__(d_model, eps, elementwise_affine=affine, bias=bias)
        self.unit_offset = unit_offset
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scales by 1 at first."""
        super().reset_parameters()
        if self.unit_offset:
            nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Where its weights are narrower than x, as those that were sent in 16 bits, it is computed in x's type."""
        if not self.unit_offset and (self.weight is None or self.weight.itemsize >= x.itemsize):
            return super().forward(x)
        wide = _wide(x) if self.unit_offset else x.dtype
        weight, bias = self.weight.to(wide), None if self.bias is None else self.bias.to(wide)
        weight = 1 + weight if self.unit_offset else weight
        return F.layer_norm(x.to(wide), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, equation 4 of the paper.

    With `unit_offset` it multiplies by 1 + weight, and the weight starts at zero, as in Gemma. There is no weight if
    `affine` is false.

    Shapes: (..., D) -> (..., D).
    >>> RMSNorm(2)(torch.tensor([1.0, 7.0])).detach()  # the mean square is 25
    tensor([0.2000, 1.4000])
    """

    weight: nn.Parameter | None

    def __init__(self, d_model: int, *, eps: float = 1e-6, unit_offset: bool = False, affine: bool = True) -> None:
        super().__init__()
        _check_norm(d_model, eps, affine=affine, unit_offset=unit_offset)
        self.normalized_shape, self.eps, self.unit_offset = (d_model,), eps, unit_offset
        self.weight = nn.Parameter(torch.empty(d_model)) if affine else None
        self.init_weights()

    def init_weights(self) -> None:
        """Set the weight so that it scales by 1."""
        if self.weight is not None:
            nn.init.constant_(self.weight, 0.0 if self.unit_offset else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is None or not self.unit_offset:
            return rms_norm(x, self.weight, self.eps)
        wide = _wide(x)
        return rms_norm(x.to(wide), 1 + self.weight.to(wide), self.eps).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape[0]}, eps={self.eps}"


def _check_norm(d_model: int, eps: float, *, affine: bool, unit_offset: bool) -> None:
    check_sizes(d_model=d_model)
    check_positive(eps=eps)
    check_flags(unit_offset=unit_offset, affine=affine)
    if unit_offset and not affine:
        raise ValueError("unit_offset is for a weight, and without affine there is none")


def _wide(x: Tensor) -> torch.dtype:
    """The dtype for 1 + weight: in 16 bits the sum would lose the weight's last bits."""
    return torch.promote_types(x.dtype, torch.float32)


class HeadNorms(nn.Module):
    """A norm for each head, each with weights of its own: copies of a norm of the head's width.

    Shapes: (..., H, Dh) -> (..., H, Dh).
    """

    def __init__(self, norm: nn.Module, n_heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(deepcopy(norm) for _ in range(n_heads))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([norm(head) for norm, head in zip(self.norms, x.unbind(-2), strict=True)], dim=-2)


class NormOfHeads(nn.Module):
    """A norm of width H * Dh over all heads of a token together.

    Shapes: (..., H, Dh) -> (..., H, Dh).
    """

    def __init__(self, norm: nn.Module, n_heads: int) -> None:
        super().__init__()
        self.norm, self.n_heads = norm, n_heads

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.flatten(-2)).unflatten(-1, (self.n_heads, -1))
        return out


def norms_over(
    over: str, norm: nn.Module | tuple[nn.Module, nn.Module] | None, n_heads: tuple[int, int]
) -> tuple[nn.Module | None, nn.Module | None]:
    """The norms of an attention's queries and keys, `qk_norm` of `Attention`: each (B, T, H, Dh) -> the same.

    Raises:
        ValueError: it is not a norm, or there is no such way.
    """
    if not isinstance(norm, nn.Module | tuple | None):
        raise ValueError(f"qk_norm is {norm!r}, expected a norm of head_dim, two, or None")
    check_choice(("head", "own_head", "all_heads"), qk_norm_over=over)
    of_queries, of_keys = norm if isinstance(norm, tuple) else (norm, deepcopy(norm))
    if of_queries is None or of_keys is None or over == "head":
        return of_queries, of_keys
    kind = HeadNorms if over == "own_head" else NormOfHeads
    return kind(of_queries, n_heads[0]), kind(of_keys, n_heads[1])
