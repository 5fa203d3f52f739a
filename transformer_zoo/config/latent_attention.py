"""Attention that remembers one small vector of each token instead of its keys and values."""

from dataclasses import dataclass

from transformer_zoo.config.attention import AttentionSpec, SelfAttentionSpec


@dataclass(frozen=True, kw_only=True)
class LatentSpec(SelfAttentionSpec):
    """Multi-head latent attention (DeepSeek-AI 2024, "DeepSeek-V2", section 2.1)."""

    module = "transformer_zoo.blocks.latent_attention:LatentAttention"
    takes = ("d_model", "rotary")

    kv_rank: int = 512
    """Width of the remembered vector, from which the keys and values of all heads are made."""
    q_rank: int | None = 1536
    """Width that queries are projected through; None: they are projected in one step."""
    head_dim: int = 128
    """Width of the part of a head's queries and keys that has no positions."""
    rotary_dim: int = 64
    """Width of the part that positions rotate; all heads share its keys."""
    value_dim: int = 128
    """Width of a head's values."""
    bias: bool = False
    """Whether the projections from and to d_model have biases; queries projected in one step have none."""
    dropout: float = 0.0
    """Dropout on the attention weights."""
    norm_eps: float = 1e-6
    """Eps of the norms over both narrow vectors."""

    def width(self, d_model: int) -> int:
        return self.rotary_dim

    def across(self) -> AttentionSpec:
        """The paper's attention: a memory is projected once, so a smaller cache would not help."""
        return AttentionSpec(n_heads=self.n_heads, head_dim=self.head_dim, bias=self.bias, dropout=self.dropout)
