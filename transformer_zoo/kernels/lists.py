"""Sums over lists of tensors, such as all weights of a model, in one call of torch if it has one.

Shapes: any, the same in each list.
"""

import torch
from torch import Tensor

from transformer_zoo.kernels.derivatives import is_plain

_NAMES = ("lerp", "lerp_", "mul_", "add_", "zero_")
_ARE_THERE = all(hasattr(torch, f"_foreach_{name}") for name in _NAMES)  # private to torch


def lerp_(tensors: list[Tensor], ends: list[Tensor], weight: float) -> None:
    """Add weight * (end - tensor) to each tensor."""
    if _in_one_call():
        torch._foreach_lerp_(tensors, ends, weight)
    else:
        for tensor, end in zip(tensors, ends, strict=True):
            tensor.lerp_(end, weight)


def lerp(tensors: list[Tensor], ends: list[Tensor], weight: float) -> list[Tensor]:
    """tensor + weight * (end - tensor), for each tensor."""
    if _in_one_call():
        return list(torch._foreach_lerp(tensors, ends, weight))
    return [tensor.lerp(end, weight) for tensor, end in zip(tensors, ends, strict=True)]


def scale_(tensors: list[Tensor], factor: float) -> None:
    """Multiply each tensor by factor."""
    if _in_one_call():
        torch._foreach_mul_(tensors, factor)
    else:
        for tensor in tensors:
            tensor.mul_(factor)


def add_(tensors: list[Tensor], others: list[Tensor], factor: float) -> None:
    """Add factor * other to each tensor."""
    if _in_one_call():
        torch._foreach_add_(tensors, others, alpha=factor)
    else:
        for tensor, other in zip(tensors, others, strict=True):
            tensor.add_(other, alpha=factor)


def zero_(tensors: list[Tensor]) -> None:
    """Set each tensor to 0."""
    if _in_one_call() and tensors:
        torch._foreach_zero_(tensors)
    else:
        for tensor in tensors:
            tensor.zero_()


def _in_one_call() -> bool:
    return _ARE_THERE and not is_plain()


# `lerp_` of 150 vectors of 64 is 2.6 times as fast as one call for each (Intel Xeon with AMX, torch 2.13, one thread;
# one machine), of 150 matrices of 256 x 256 as fast. On a GPU it is one launch instead of one for each tensor.
