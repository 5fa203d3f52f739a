"""What both families have."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from transformer_zoo.config.fields import (
    WITHOUT_EFFECT,
    check_field,
    check_field_names,
    defaults_of_fields,
    refuse_without_effect,
)
from transformer_zoo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What both families have: the width, and how their layers are built."""

    vocab_size: int
    """Vocabulary; in an encoder-decoder the source's, and the target's too unless `target_vocab_size` is given."""
    d_model: int = 512
    """Width of the residual stream."""
    n_heads: int = 8
    """Attention heads of each layer."""
    n_kv_heads: int | None = None
    """Key/value heads; None: as many as `n_heads`. Fewer share each among n_heads / n_kv_heads queries."""
    head_dim: int | None = None
    """Width of one head; None: d_model / n_heads."""
    d_ff: int = 2048
    """Inner width of the feed-forward."""
    max_seq_len: int = 1024
    """Tokens of the longest text. Learned positions end there; with others a model can read on, but text is written,
    scored and trained on in windows of it, and longer sources are split."""
    dropout: float = 0.1
    """On embedding + position and on each sublayer's output, before it is added (section 5.4)."""
    attention_dropout: float = 0.0
    """On the attention weights; not in the paper."""
    activation_dropout: float = 0.0
    """Inside the feed-forward, after the activation; not in the paper."""
    activation: str = "relu"
    """Of the feed-forward; the paper has relu."""
    gated: bool = False
    """The feed-forward multiplies its activation with a second projection (GLU)."""
    norm: str = "layernorm"
    """LayerNorm as in the paper, or RMSNorm, which neither centres nor shifts."""
    norm_unit_offset: bool = False
    """RMSNorm multiplies by 1 + weight, and the weight starts at zero, as in Gemma."""
    norm_affine: bool = True
    """LayerNorm has a weight, and a bias if `norm_bias`; False: neither."""
    norm_position: str = "post"
    """"post": LayerNorm(x + Sublayer(x)) as in the paper; "pre": x + Sublayer(LayerNorm(x)), and a norm at the end.
    "both": x + Norm'(Sublayer(Norm(x))), as in Gemma 2; "parallel": x + Attention(Norm(x)) + FFN(Norm'(x)), as in
    GPT-NeoX; "pre_carried": Norm(x) + Sublayer(Norm(x)), as BLOOM may. These three have a norm at the end too."""
    final_norm: bool | None = None
    """A norm after the last layer; None: unless `norm_position` is "post"."""
    embedding_norm: bool = False
    """A norm over embedding + position, before the first layer."""
    norm_eps: float = 1e-5
    """Added to the variance under the square root of a norm."""
    norm_bias: bool = True
    """LayerNorm shifts as well as scales; RMSNorm never does."""
    bias: bool = True
    """Biases on the projections of attention and feed-forward."""
    qkv_bias: bool | None = None
    """Biases on the projections of queries, keys and values; None: as `bias`."""
    ffn_bias: bool | None = None
    """Biases on the projections of the feed-forward; None: as `bias`."""
    qk_norm: bool = False
    """An RMSNorm over each head's queries and keys, before rotation."""
    attention_softcap: float | None = None
    """Bounds the attention scores: cap * tanh(score / cap)."""
    attention_scale: float | None = None
    """Multiplies the attention scores; None: head_dim^-0.5. T5 has 1."""
    attention_scale_by_layer: bool = False
    """Divides the attention scores of layer i by i, counted from 1, as GPT-2 may."""
    sliding_window: int | None = None
    """Self-attention sees so many tokens, itself included; None: all. For decoders."""
    windowed_layers: tuple[int, ...] | None = None
    """Which layers have the sliding window, counted from 0; None: all."""
    positions: str = "sinusoidal"
    """Fixed waves as in the paper (section 3.5), an embedding learned for each position, rotated queries and keys,
    scores that fall with the distance ("alibi"), scores learned by distance ("relative", T5's), or none."""
    position_offset: int = 0
    """Learned and sinusoidal positions: the first token has this place."""
    sinusoid_layout: str = "interleaved"
    """"interleaved" sine and cosine as in the paper, or concatenated "halves" as in Marian; "halves_inclusive" has the
    last wave exactly 10000 times slower than the first, as in fairseq."""
    relative_buckets: int = 32
    """`relative`: learned scores of each head; in an encoder half of them for what comes after."""
    relative_max_distance: int = 128
    """`relative`: from this distance on all have one score."""
    rotary_base: float = 10000.0
    """Base of the rotary frequencies; larger turns slower."""
    rotary_dim: int | None = None
    """How many of a head's dimensions rotate; None: all."""
    rotary_layout: str = "halves"
    """Which two dimensions turn together: i and i + dim / 2 ("halves"), or 2i and 2i + 1 ("interleaved")."""
    rotary_scaling: str = "none"
    """For longer inputs than were trained on: "linear" slows all frequencies down by `rotary_factor`, "llama3" and
    "yarn" (Peng et al. 2023) the low ones."""
    rotary_factor: float = 8.0
    """`linear`, `llama3`, `yarn`: by how much."""
    rotary_low_freq_factor: float = 1.0
    """`llama3`: waves longer than `rotary_original_max_seq_len` / this are slowed down in full."""
    rotary_high_freq_factor: float = 4.0
    """`llama3`: waves shorter than `rotary_original_max_seq_len` / this are left alone."""
    rotary_original_max_seq_len: int = 8192
    """`llama3`, `yarn`: the input length before scaling."""
    rotary_beta_fast: float = 32.0
    """`yarn`: waves that turn more often within `rotary_original_max_seq_len` are left alone."""
    rotary_beta_slow: float = 1.0
    """`yarn`: waves that turn less often are slowed down in full."""
    rotary_truncate: bool = True
    """`yarn`: the ramp between the two ends at whole pairs of dimensions."""
    rotary_attention_factor: float | None = None
    """`yarn`: multiplies rotated queries and keys; None: 0.1 ln(rotary_factor) + 1."""
    scale_embeddings: bool = True
    """Multiply embeddings by sqrt(d_model) (section 3.4)."""
    logit_scale: float | None = None
    """Multiplies the logits; None: 1. T5 with a tied head has d_model^-0.5."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):  # as JSON and YAML have a tuple
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
            check_field(type(self).__name__, field, getattr(self, field.name))
        refuse_without_effect(vars(self), WITHOUT_EFFECT, defaults_of_fields(type(self)))
        self._check_heads(self.n_heads)

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def ends_in_norm(self) -> bool:
        """Whether there is a norm after the last layer."""
        return self.norm_position != "post" if self.final_norm is None else self.final_norm

    def _check_heads(self, n_heads: int) -> None:
        if self.head_dim is None and self.d_model % n_heads:
            raise UserError(
                f"d_model {self.d_model} is not a multiple of n_heads {n_heads}: change one or set head_dim"
            )
        if self.n_kv_heads is not None and n_heads % self.n_kv_heads:
            raise UserError(f"n_heads {n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")
        head_dim = self.head_dim or self.d_model // n_heads
        rotary_dim = self.rotary_dim or head_dim
        if self.positions == "rotary" and (rotary_dim % 2 or rotary_dim > head_dim):
            name = "head_dim" if self.rotary_dim is None else "rotary_dim"
            raise UserError(f"{name} {rotary_dim} must be even, and at most head_dim {head_dim}, for rotary positions")
        if self.positions == "rotary" and self.rotary_scaling == "yarn" and rotary_dim == 2:
            raise UserError("rotary_scaling: yarn needs 4 dimensions of a head that rotate, or more")
        low, high = self.rotary_low_freq_factor, self.rotary_high_freq_factor
        if self.positions == "rotary" and self.rotary_scaling == "llama3" and low >= high:
            raise UserError(f"rotary_low_freq_factor {low} must be below rotary_high_freq_factor {high}")
        if self.positions == "rotary" and self.rotary_scaling == "yarn" and self.rotary_base <= 1:
            raise UserError(f"rotary_base {self.rotary_base} must be above 1 for rotary_scaling: yarn")

    def _check_buckets(self, parts: int) -> None:
        """Of the `relative_buckets`, so many parts' first has one distance each."""
        exact = self.relative_buckets // parts
        if self.positions == "relative" and not 1 <= exact < self.relative_max_distance:
            raise UserError(
                f"relative_buckets {self.relative_buckets} must be at least {parts}, and relative_max_distance "
                f"{self.relative_max_distance} more than {exact}, the distances with a bucket of their own"
            )

    def _check_ids(self, vocab_size: int, *names: str) -> None:
        for name in names:
            token = getattr(self, name)
            if token is not None and not 0 <= token < vocab_size:
                raise UserError(
                    f"{name} {token} is outside the vocabulary of {vocab_size}: ids run from 0 to {vocab_size - 1}"
                )

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `to_dict` wrote.

        Raises:
            UserError: a field is unknown or missing, named in the message.
        """
        check_field_names(cls, values)
        return cls(**values)
