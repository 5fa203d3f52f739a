"""A mixture of experts instead of a feed-forward."""

from dataclasses import dataclass

from transformer_zoo.config.feed_forward import Activation, FfnSpec
from transformer_zoo.config.spec import Context
from transformer_zoo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class MixtureSpec(FfnSpec):
    """Feed-forward networks of which each position uses a few (Shazeer et al. 2017; Mixtral, Jiang et al. 2024)."""

    module = "transformer_zoo.blocks.mixture:Mixture"
    takes, counts = ("d_model",), ("n_experts",)

    n_experts: int = 8
    """Number of experts in each layer."""
    n_active: int = 2
    """Number of experts that a position goes through."""
    d_ff: int = 2048
    """Inner width of each expert."""
    activation: Activation = "silu"
    """Activation function of each expert."""
    gated: bool = True
    """Whether the activation is multiplied by a second projection (GLU)."""
    bias: bool = False
    """Whether their projections have biases."""
    dropout: float = 0.0
    """Dropout after the activation of each expert."""

    def check(self, context: Context) -> None:
        if self.n_active > self.n_experts:
            raise UserError(f"n_active is {self.n_active}, more than n_experts, {self.n_experts}")
