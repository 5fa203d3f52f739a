"""Products with a weight that is rounded to 8 bits, on a CPU: only a quarter of the memory is read."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.kernels.cpu import cpu_has_int8, is_there
from transformer_zoo.kernels.derivatives import is_plain

VECTOR = 32


def formula(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (s W)^T + b: x (..., D), W (E, D) in int8, s (E,), b (E,) -> (..., E)."""
    return F.linear(x, weight.float() * scale.float()[:, None], bias)


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """`formula` for x and a scale rounded to bfloat16, by torch's kernel, which takes whole vectors of inputs."""
    if is_plain() or x.size(-1) % VECTOR or not _has_torchs():
        return formula(x, weight, scale, bias)
    rows = x.reshape(-1, x.size(-1)).bfloat16()
    out = torch._weight_int8pack_mm(rows, weight, scale).float().view(*x.shape[:-1], -1)
    return out if bias is None else out + bias


def prepack(weight: Tensor) -> Tensor:
    """The weight (E, D) in int8, in the layout of `int8_product`."""
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
    return packed


def int8_product(x: Tensor, step: float, packed: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """`formula` for x rounded to multiples of the step, at most 127 of them, by oneDNN's kernel with `prepack`'s
    weight."""
    if is_plain():
        return formula(x, packed.to_dense().t(), scale, bias)
    rounded = (x * (1 / step)).round_().add_(128).to(torch.uint8)  # oneDNN is 100 times slower with int8
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.ops.onednn.qlinear_pointwise(  # type: ignore[no-any-return]
        rounded, step, 128, packed, scale, zero, bias, 1.0, 0, torch.float32, "none", [], ""
    )


@cache
def has_int8() -> bool:
    """Whether this CPU and this torch have what `int8_product` needs."""
    eye, ones = _probe()
    return cpu_has_int8() and is_there(lambda: int8_product(eye.float(), 1 / 127, prepack(eye), ones), eye.float())


@cache
def _has_torchs() -> bool:
    eye, ones = _probe()
    return is_there(lambda: torch._weight_int8pack_mm(eye.bfloat16(), eye, ones.bfloat16()).float(), eye.float())


def _probe() -> tuple[Tensor, Tensor]:
    """A weight and its scale."""
    return torch.eye(32, dtype=torch.int8, device="cpu"), torch.ones(32, dtype=torch.float32, device="cpu")


# Gain over torch's linear in float32 (recipes/benchmarks/kernels.py; Intel Xeon with AMX, torch 2.13, one thread | two;
# one machine). There are more weights than a cache holds. 1 row by (768, 768) 1.5 | 1.1, by (768, 2304) 1.6 | 1.6, by
# (768, 3072) 1.5 | 1.5; 4 rows 1.5 | 1.8, 2.1 | 1.7, 2.3 | 1.7; `int8_product`, 1 and 4 rows by (768, 50257), 3.2 | 3.4
# and 6.5 | 5.7.
