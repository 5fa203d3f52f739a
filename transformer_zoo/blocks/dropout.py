"""Dropout (Srivastava et al. 2014), fast on a CPU too."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_probabilities
from transformer_zoo.kernels.derivatives import is_plain

_LEVELS = 1 << 16


def keep_mask(shape: torch.Size, p: float) -> Tensor:
    """1 for each element to keep, 0, with probability p to the nearest 1/65536, for the others: uint8, on the CPU.

    torch draws a Bernoulli variable from a whole floating-point number each, one after the other, which costs as much
    as a layer's matrix products. Sixteen random bits decide just as well, and one draw of the generator holds four
    of them. They come from torch's own generator, so that seeding and saving its state cover dropout.
    """
    n = shape.numel()
    words = torch.empty((n + 3) // 4, dtype=torch.int64, device="cpu").random_(-(2**63), None)
    bits = words.view(torch.int16)[:n].view(shape)
    dropped = min(round(p * _LEVELS), _LEVELS - 1)  # of the levels; all of them would overflow the comparison
    return (bits >= dropped - _LEVELS // 2).view(torch.uint8)


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Zero each element of x with probability p and scale the rest by 1 / (1 - p); the identity when not training.

    Args:
        x: any shape.
        p: from 0 up to, not including, 1.

    Raises:
        ValueError: p is outside that range.
    """
    if p:
        check_probabilities(p=p)
    if not training or not p:
        return x
    if x.device.type != "cpu" or is_plain():
        return F.dropout(x, p)
    # A product is one vector instruction; a choice by a boolean is many times slower on a CPU.
    keep = keep_mask(x.shape, p).to(x.dtype)
    if x.dtype.itemsize < 4:  # too narrow to hold the scale
        return x * keep * (1 / (1 - p))
    return x * keep.mul_(1 / (1 - p))


class Dropout(nn.Module):
    """`dropout` as a module: active in training mode only. Shapes: any -> the same."""

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        check_probabilities(p=p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
