"""Attention that remembers a small vector of each token in place of its keys and values."""

from dataclasses import dataclass

from transformer_zoo.config.attention import AttentionSpec, SelfAttentionSpec


@dataclass(frozen=True, kw_only=True)
class LatentSpec(SelfAttentionSpec):
    """Multi-head latent attention (DeepSeek-AI 2024, "DeepSeek-V2", section 2.1)."""

    module = "transformer_zoo.blocks.latent_attention:LatentAttention"
    takes = ("d_model", "rotary")

    kv_rank: int = 512
    """Width of what is remembered of a token for the keys and values of all heads."""
    q_rank: int | None = 1536
    """Width that queries go through; None: they are projected in one step."""
    head_dim: int = 128
    """Width of that part of a head's queries and keys which knows nothing of positions."""
    rotary_dim: int = 64
    """Width of the part that positions rotate; all heads share its keys."""
    value_dim: int = 128
    """Width of a head's values."""
    bias: bool = False
    """Biases on the projections from and to d_model, but for queries in one step."""
    dropout: float = 0.0
    """On the attention weights."""
    norm_eps: float = 1e-6
    """Of the norms over both ranks."""

    def width(self, d_model: int) -> int:
        return self.rotary_dim

    def across(self) -> AttentionSpec:
        """The paper's: a memory is projected once, and has no use for a smaller cache."""
        return AttentionSpec(n_heads=self.n_heads, head_dim=self.head_dim, bias=self.bias, dropout=self.dropout)
