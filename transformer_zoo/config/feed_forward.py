"""Feed-forward networks: what a layer does with each position separately."""

from dataclasses import dataclass
from typing import Literal

from transformer_zoo.config.spec import Spec

Activation = Literal[
    "relu", "relu_squared", "gelu", "gelu_tanh", "quick_gelu", "silu", "mish", "hardswish", "relu6", "leaky_relu",
    "sigmoid", "tanh", "xielu",
]  # fmt: skip


class FfnSpec(Spec):
    """Base of everything that can be a layer's feed-forward: (B, T, D) -> (B, T, D)."""


@dataclass(frozen=True, kw_only=True)
class FeedForwardSpec(FfnSpec):
    """The paper's network (section 3.3) and its gated variants.
    >>> config = tz.get_config("gpt-nano", ffn=FeedForwardSpec(d_ff=256, activation="silu", gated=True))
    """

    module = "transformer_zoo.blocks.feed_forward:FeedForward"
    takes = ("d_model",)

    d_ff: int = 2048
    """Inner width."""
    activation: Activation = "relu"
    """Activation function; the paper has relu."""
    gated: bool = False
    """Whether the activation is multiplied by a second projection (GLU)."""
    bias: bool = True
    """Whether its projections have biases."""
    dropout: float = 0.0
    """Dropout after the activation; the paper has none."""
