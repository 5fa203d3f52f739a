"""Attention: how the tokens of a layer look at each other."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self

from transformer_zoo.config.norm import NormSpec
from transformer_zoo.config.spec import Context, Spec
from transformer_zoo.errors import UserError

QkNormOver = Literal["head", "own_head", "all_heads"]


@dataclass(frozen=True, kw_only=True)
class SelfAttentionSpec(Spec):
    """Base of everything that can be a layer's self-attention: (B, T, D) -> (B, T, D)."""

    n_heads: int = 8
    """Number of attention heads."""
    window: int | None = None
    """Each token sees this many tokens up to itself, and in an encoder as many after it; None: all."""

    def width(self, d_model: int) -> int:
        """Width of the part of a head that positions can rotate."""
        return d_model // self.n_heads

    def across(self) -> "SelfAttentionSpec":
        """The attention to a memory that belongs to it."""
        return self


@dataclass(frozen=True, kw_only=True)
class AttentionSpec(SelfAttentionSpec):
    """The paper's multi-head attention (section 3.2.2).
    >>> config = tz.get_config("gpt-nano", attention=AttentionSpec(n_heads=4, n_kv_heads=2))
    """

    module = "transformer_zoo.blocks.attention:Attention"
    takes = ("d_model", "rotary", "scores")

    n_kv_heads: int | None = None
    """Number of key/value heads; None: `n_heads`. With fewer, n_heads / n_kv_heads query heads share one."""
    head_dim: int | None = None
    """Width of one head; None: d_model / n_heads."""
    bias: bool = True
    """Whether its projections have biases."""
    qkv_bias: bool | None = None
    """Whether the projections of queries, keys and values have biases; None: as `bias`."""
    dropout: float = 0.0
    """Dropout on the attention weights; the paper has none."""
    scale: float | None = None
    """Factor of the scores; None: head_dim^-0.5. T5 has 1."""
    softcap: float | None = None
    """Bound of the scores: cap * tanh(score / cap)."""
    clip: float | None = None
    """Bound of the projected queries, keys and values: they are clipped to [-clip, clip]."""
    qk_norm: NormSpec | None = None
    """A norm over queries and one over keys, before rotation."""
    qk_norm_over: QkNormOver = "head"
    """What the norm is over: "head": each head, with weights that all heads share; "own_head": each head, with weights
    of its own; "all_heads": all heads together, as in OLMo 2."""
    qk_norm_after_rotation: bool = False
    """Whether the norm is over rotated queries and keys, as in Hunyuan."""

    def width(self, d_model: int) -> int:
        return self.head_dim or d_model // self.n_heads

    def across(self) -> Self:
        """A copy without the fields that are for self-attention only."""
        plain = dataclasses.replace(self, window=None, softcap=None, clip=None)
        return dataclasses.replace(plain, qk_norm=None, qk_norm_over="head", qk_norm_after_rotation=False)

    def check(self, context: Context) -> None:
        if self.head_dim is None and context.d_model % self.n_heads:
            raise UserError(
                f"d_model {context.d_model} is not a multiple of n_heads {self.n_heads}: change one or set head_dim"
            )
        if self.n_kv_heads is not None and self.n_heads % self.n_kv_heads:
            raise UserError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")

        if self.qk_norm is None and self.qk_norm_over != "head":
            raise UserError(f"qk_norm_over {self.qk_norm_over!r} has no effect where qk_norm is none: leave it out")
        if self.qk_norm is None and self.qk_norm_after_rotation:
            raise UserError("qk_norm_after_rotation has no effect where qk_norm is none: leave it out")

    def arguments(self, context: Context) -> dict[str, Any]:
        width = self.width(context.d_model)
        given = super().arguments(dataclasses.replace(context, d_model=width))
        if self.qk_norm is not None and self.qk_norm_over == "all_heads":
            widths = (n * width for n in (self.n_heads, self.n_kv_heads or self.n_heads))
            given["qk_norm"] = tuple(self.qk_norm.build(dataclasses.replace(context, d_model=w)) for w in widths)
        qkv_bias = given.pop("qkv_bias")
        biased = ("q", "k", "v") * (self.bias if qkv_bias is None else qkv_bias) + ("out",) * self.bias
        return {**given, "d_model": context.d_model, "bias": biased}
