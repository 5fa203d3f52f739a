"""The position-wise feed-forward network, section 3.3 of "Attention Is All You Need", and its gated variants."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.answers import Cut, Own
from transformer_zoo.blocks.arguments import check_choice, check_cut, check_flags, check_probabilities, check_sizes
from transformer_zoo.blocks.dropout import Dropout
from transformer_zoo.blocks.linear import Linear
from transformer_zoo.kernels.activation import relu_squared


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


class XIELU(nn.Module):
    """p x^2 + b x above 0, and n (e^x - 1 - x) + b x below, where p and n are learned (Huang & Schlag 2024, "Deriving
    Activation Functions Using Integration", equation 11): p = softplus(alpha_p), n = b + softplus(alpha_n).

    b and `eps`, the end of the lower branch, come with the weights and are not trained. (..., ) -> the same.
    """

    beta: Tensor
    eps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.alpha_p, self.alpha_n = nn.Parameter(torch.empty(1)), nn.Parameter(torch.empty(1))
        self.register_buffer("beta", torch.empty(()))
        self.register_buffer("eps", torch.empty(()))
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Set both factors to 0.8."""
        self.beta.fill_(0.5)
        self.eps.fill_(-1e-6)
        self.alpha_p.fill_(math.log(math.expm1(0.8)))
        self.alpha_n.fill_(math.log(math.expm1(0.8 - 0.5)))

    def forward(self, x: Tensor) -> Tensor:
        above, below = F.softplus(self.alpha_p), self.beta + F.softplus(self.alpha_n)
        curved = torch.where(x > 0, above * x * x, below * (torch.expm1(torch.minimum(x, self.eps)) - x))
        return curved + self.beta * x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor] | type[nn.Module]] = {
    "relu": F.relu,
    "relu_squared": relu_squared,
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
    "xielu": XIELU,
}


def activation_of(name: str) -> Callable[[Tensor], Tensor]:
    """One of `ACTIVATIONS`: a function, or a module of its own where the activation learns."""
    found = ACTIVATIONS[name]
    return found() if isinstance(found, type) else found


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W1 + b1) W2 + b2 (equation 2), with W1 `up_proj` and W2 `down_proj`.

    With `gated` it is (activation(x W) * (x V)) W2, where W is `gate_proj` and V is `up_proj` (Shazeer 2020, "GLU
    Variants Improve Transformer", equation 6). "silu" gives SwiGLU, "gelu" GEGLU, "relu" ReGLU.
    >>> ffn, x = FeedForward(512, 2048), torch.randn(2, 5, 512)
    >>> torch.equal(ffn(x), ffn.down_proj(ffn.up_proj(x).relu()))
    True

    Args:
        d_model: width of input and output.
        d_ff: inner width.
        activation: one of `ACTIVATIONS`: "relu" as in the paper, "relu_squared" (So et al. 2021, "Primer"), "gelu"
            (exact), "gelu_tanh" (GPT-2's approximation), "silu" (Llama's), "xielu" (`XIELU`, which learns) and others
            of downloaded models.
        dropout: probability of dropping an activation, 0 in the paper.

    Shapes: (..., D) -> (..., D).

    Raises:
        ValueError: the activation has no such name, or another argument is out of range.
    """

    reads, writes = ("up_proj", "gate_proj"), ("down_proj",)

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
        self.activation = activation_of(activation)
        self.up_proj = Linear(d_model, d_ff, bias=bias)
        self.gate_proj = Linear(d_model, d_ff, bias=bias) if gated else None
        self.down_proj = Linear(d_ff, d_model, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate_proj is None:
            inner = self.activation(self.up_proj(x))  # (..., d_ff)
        else:
            inner = self.activation(self.gate_proj(x)) * self.up_proj(x)  # (..., d_ff)
        out: Tensor = self.down_proj(self.dropout(inner))
        return out

    def cut(self, n: int, own: Own) -> Cut:
        """Each of n processes computes some of the inner width.

        Raises:
            ValueError: it does not divide, or has dropout, of which a process would draw that of its share alone.
        """
        check_cut(n, d_ff=self.up_proj.out_features)
        if self.dropout.p:
            raise ValueError(f"dropout of activations is {self.dropout.p}: where the inner width is cut it must be 0")
        plan: Cut = {"up_proj": "columns", "down_proj": "rows"}
        if self.gate_proj is not None:
            plan["gate_proj"] = "columns"
        if isinstance(self.activation, nn.Module):
            plan["activation"] = "alike"
        return plan
