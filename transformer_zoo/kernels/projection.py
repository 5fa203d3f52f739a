"""Linear projections on a CPU: for few rows, for bfloat16, and for a weight with a layout made for them."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from transformer_zoo.kernels.cpu import float32_is_as_fast, is_there
from transformer_zoo.kernels.derivatives import is_plain, without_gradient


def formula(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: x (..., D), weight (E, D), bias (E,) -> (..., E)."""
    return F.linear(x, weight, bias)


_TORCHS = (Tensor, Parameter)  # any other module, such as a quantized one, says itself how it multiplies
# Outside these bounds MKL is as fast or faster, with one thread or with two.
_FEW_ROWS = range(8, 33)
BIG_WEIGHT = 1 << 20  # number of elements; reading takes so long that their order matters
_PACKED_FOR_ROWS = 16


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`formula`, x W^T + b: x (..., D), weight (E, D), bias (E,) -> (..., E).

    For a few rows MKL rearranges the whole weight to multiply it once; oneDNN reads it as it is. Under bfloat16
    autocast, products that gain nothing from bfloat16 are computed in float32, with the same roundings.
    """
    if x.device.type != "cpu" or type(weight) not in _TORCHS:
        return formula(x, weight, bias)
    if torch.is_autocast_enabled("cpu"):
        in_bfloat16 = torch.get_autocast_dtype("cpu") == torch.bfloat16
        slow = in_bfloat16 and not is_plain() and float32_is_as_fast(weight.numel())
        return _linear_in_float32(x, weight, bias) if slow else formula(x, weight, bias)
    if (
        x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and weight.numel() >= BIG_WEIGHT
        and not is_plain()  # asked last, because most weights do not need it
        and x.numel() // x.size(-1) in _FEW_ROWS
        and can_pack()
    ):
        return _one_dnn(x, weight, bias)
    return formula(x, weight, bias)


def _linear_in_float32(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The result of bfloat16 instructions, by float32 instructions: both round inputs, sum in float32, and round."""
    with torch.autocast("cpu", enabled=False):
        rounded = [None if t is None else t.bfloat16().float() for t in (x, weight, bias)]
        return F.linear(*rounded).bfloat16()  # type: ignore[arg-type]


@cache
def can_pack() -> bool:
    """Whether torch has the products of oneDNN that `pack_weight` is for."""
    one, weight = torch.ones(4, 3, device="cpu", dtype=torch.float32), torch.eye(3, device="cpu", dtype=torch.float32)
    with torch.autocast("cpu", enabled=False), torch.no_grad():
        return is_there(lambda: _one_dnn(one, pack_weight(weight), None), one)


def pack_weight(weight: Tensor) -> Tensor:
    """A copy of a float32 weight (E, D) on a CPU in oneDNN's own order, which only `packed_linear` can use.

    Raises:
        ValueError: it is any other tensor.
    """
    if weight.dim() != 2 or weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise ValueError(
            f"{tuple(weight.shape)} of {weight.dtype} on {weight.device}: expected (E, D) float32 on a CPU"
        )
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR_ROWS)
    return packed


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """`formula` with the result of `pack_weight`, in float32 whatever autocast says, and without gradient.

    Raises:
        RuntimeError: a gradient is asked for.
    """

    def product(x: Tensor) -> Tensor:
        if is_plain():
            return formula(x.float(), packed.to_dense(), bias)
        return _one_dnn(x.float(), packed, bias)

    return without_gradient(product, x, "a packed model")


def _one_dnn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def in_autocast_dtype(x: Tensor) -> Tensor:
    """x in the type that autocast gives a product; x itself without autocast."""
    kind = x.device.type
    # A compiler of torch 2.11 cannot follow this question, and it compiles for devices with autocast.
    has_autocast = torch.compiler.is_compiling() or torch.amp.is_autocast_available(kind)
    if not has_autocast or not torch.is_autocast_enabled(kind) or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(kind))


# Gain over torch's linear (recipes/benchmarks/kernels.py; Intel Xeon with AMX, torch 2.13, one thread | two; one
# machine), by more weights than a cache holds, in float32: 16 rows by (512, 2048) 1.1 | 1.3, by (768, 3072) 1.1 |
# 1.0, by (512, 8000) 1.2 | 1.4; packed, 4 rows by (512, 2048) 1.1 | 1.0, by (768, 3072) 1.4 | 1.1, by (512, 8000) 1.4
# | 1.0; 16 rows 1.2 | 1.4, 1.2 | 1.1, 1.4 | 1.6; 8 and 12 rows, where MKL is slowest, by (768, 3072) 1.7 | 1.4 and
# 1.9 | 1.7, by (576, 49152) 2.5 | 2.2 and 2.9 | 2.6. Smaller weights lose: 8 rows by (576, 576) 1.0 | 0.9, (512, 512)
# 0.9 | 0.9. In bfloat16, forward and backward: a weight of (64, 128), with another number of rows at each step, 9.3 |
# 9.0; 1,024 rows by (512, 2048) without the instructions (ONEDNN_MAX_CPU_ISA=AVX512_CORE), one thread, 1.5.
