"""Rotary positions: rotating pairs of dimensions, and the gradient, which is the same rotation backwards."""

from typing import Any

import torch
from torch import Tensor

from transformer_zoo.kernels.derivatives import is_more_asked, is_plain


def formula(x: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin) for each pair of the first R dimensions; the others stay as they are.

    x is (B, H, T, Dh); cos and sin are (T, R/2) or (B, 1, T, R/2). Pairs are dimensions i and i + R/2 (layout "halves")
    or 2i and 2i + 1 ("interleaved").
    """
    n = 2 * cos.size(-1)
    turning = x if n == x.size(-1) else x[..., :n]
    a, b = _pairs(turning, layout)
    turned = [a * cos - b * sin, b * cos + a * sin]
    joined = torch.cat(turned, dim=-1) if layout == "halves" else torch.stack(turned, dim=-1).reshape(turning.shape)
    return joined if n == x.size(-1) else torch.cat([joined, x[..., n:]], dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    """`formula`, written into the result in place, with a gradient that keeps nothing of x."""
    if is_plain() or cos.requires_grad or sin.requires_grad:
        return formula(x, cos, sin, layout)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return _in_place(x, cos, sin, layout)
    out: Tensor = _Rotation.apply(x, cos, sin, layout)  # type: ignore[no-untyped-call]
    return out


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.layout = layout
        return _in_place(x, cos, sin, layout)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        turn = formula if is_more_asked(grads[0]) else _in_place
        return turn(grads[0], cos, -sin, ctx.layout), None, None, None


def _in_place(x: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    n, out = 2 * cos.size(-1), torch.empty_like(x)
    (a, b), (to_a, to_b) = _pairs(x[..., :n], layout), _pairs(out[..., :n], layout)
    torch.mul(a, cos, out=to_a).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=to_b).addcmul_(a, sin)
    out[..., n:] = x[..., n:]
    return out


def _pairs(x: Tensor, layout: str) -> tuple[Tensor, Tensor]:
    """Views of the first and of the second dimension of each pair: (..., R) -> twice (..., R/2)."""
    a, b = x.chunk(2, dim=-1) if layout == "halves" else x.view(*x.shape[:-1], x.size(-1) // 2, 2).unbind(-1)
    return a, b


# Gain over the formula, forward and backward (recipes/benchmarks/kernels.py; Intel Xeon with AMX, torch 2.13, one
# thread | two; one machine): (1, 12, 1024, 64) by halves 1.5 | 1.5 in float32, 1.4 | 1.4 in bfloat16; interleaved 2.4
# | 1.6 and 1.4 | 1.1; a quarter of each head 1.1 | 1.3 and 1.0 | 1.1.
