"""A mixture of experts in place of a feed-forward."""

from dataclasses import dataclass

from transformer_zoo.config.feed_forward import Activation, FfnSpec
from transformer_zoo.config.spec import Context
from transformer_zoo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class MixtureSpec(FfnSpec):
    """Feed-forwards of which each position goes through a few (Shazeer et al. 2017; Mixtral, Jiang et al. 2024)."""

    module = "transformer_zoo.blocks.mixture:Mixture"
    takes, counts = ("d_model",), ("n_experts",)

    n_experts: int = 8
    """How many experts there are."""
    n_active: int = 2
    """How many a position goes through."""
    d_ff: int = 2048
    """Inner width of each expert."""
    activation: Activation = "silu"
    """Of each of the experts."""
    gated: bool = True
    """They multiply their activation with a second projection (GLU)."""
    bias: bool = False
    """Biases on their projections."""
    dropout: float = 0.0
    """After the activation of each expert."""

    def check(self, context: Context) -> None:
        if self.n_active > self.n_experts:
            raise UserError(f"n_active is {self.n_active}, more than n_experts, {self.n_experts}")
