"""Linear projection that is fast for few rows on a CPU too: there it decides how fast text is written."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Measured with torch 2.13 and MKL: outside these bounds MKL is as fast or faster.
_FEW_ROWS = range(4, 16)
_BIG_WEIGHT = 1 << 20


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: x (..., D), weight (E, D), bias (E,) -> (..., E).

    For a few rows MKL rearranges all of a weight to multiply it once; oneDNN reads it as it lies, 1.3 to 2.3 times as
    fast.
    """
    if (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and weight.numel() >= _BIG_WEIGHT
        and x.numel() // x.size(-1) in _FEW_ROWS
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and torch.backends.mkldnn.is_available()
    ):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return out
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """`linear` as a module. Shapes: (..., D) -> (..., E)."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
