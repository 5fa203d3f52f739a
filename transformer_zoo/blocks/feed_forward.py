"""The position-wise feed-forward network, section 3.3 of "Attention Is All You Need", and its gated variants."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_choice, check_flags, check_probabilities, check_sizes
from transformer_zoo.blocks.dropout import Dropout
from transformer_zoo.blocks.linear import Linear, in_autocast_dtype
from transformer_zoo.kernels.derivatives import is_plain


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class _ReluSquared(torch.autograd.Function):
    """max(0, x)^2, whose gradient 2 max(0, x) is at hand: differentiated step by step it is four passes more.

    max(0, x) is an output too, so that torch knows what the gradient was computed from.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        ctx.set_materialize_grads(False)
        return positive.square(), positive

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor | None:
        (positive,) = ctx.saved_tensors
        of_square, of_positive = grads
        grad = None if of_square is None else (of_square * positive).mul_(2)
        if of_positive is not None:  # asked for by a second derivative only
            step = of_positive * (positive > 0)
            grad = step if grad is None else grad + step
        return grad


def _relu_squared(x: Tensor) -> Tensor:
    if not torch.is_grad_enabled() or is_plain():
        return F.relu(x).square()
    out: Tensor = _ReluSquared.apply(x)[0]  # type: ignore[no-untyped-call]
    return out


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_squared": _relu_squared,
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W1 + b1) W2 + b2 (equation 2), with W1 `up_proj` and W2 `down_proj`.

    Gated (Shazeer 2020, "GLU Variants Improve Transformer", equation 6): activation(x W) * (x V), with W `gate_proj`
    and V `up_proj`; "silu" gives SwiGLU, "gelu" GEGLU, "relu" ReGLU.

    Args:
        d_model: width of input and output.
        d_ff: inner width.
        activation: one of `ACTIVATIONS`: "relu" as in the paper, "relu_squared" (So et al. 2021, "Primer"), "gelu"
            (exact), "gelu_tanh" (GPT-2's approximation), "silu" (Llama's) and others of downloaded models.
        dropout: on the activations, 0 in the paper.

    Shapes: (..., D) -> (..., D).

    Raises:
        ValueError: an activation of another name, or another argument that is out of range.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        activation: str = "relu",
        gated: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model, d_ff=d_ff)
        check_choice(ACTIVATIONS, activation=activation)
        check_flags(gated=gated, bias=bias)
        check_probabilities(dropout=dropout)
        self.activation = ACTIVATIONS[activation]
        self.up_proj = Linear(d_model, d_ff, bias=bias)
        self.gate_proj = Linear(d_model, d_ff, bias=bias) if gated else None
        self.down_proj = Linear(d_ff, d_model, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = in_autocast_dtype(x)
        if self.gate_proj is None:
            inner = self.activation(self.up_proj(x))  # (..., d_ff)
        else:
            inner = self.activation(self.gate_proj(x)) * self.up_proj(x)  # (..., d_ff)
        out: Tensor = self.down_proj(self.dropout(inner))
        return out
