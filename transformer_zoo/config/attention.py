"""Attention: how the positions of a layer look at each other."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self

from transformer_zoo.config.norm import NormSpec
from transformer_zoo.config.spec import Context, Spec
from transformer_zoo.errors import UserError

QkNormOver = Literal["head", "own_head", "all_heads"]


@dataclass(frozen=True, kw_only=True)
class SelfAttentionSpec(Spec):
    """Base of all that can be a layer's self-attention: (B, T, D) -> (B, T, D)."""

    n_heads: int = 8
    """How many heads there are."""
    window: int | None = None
    """A token sees so many up to itself, and in an encoder as many from itself on; None: all."""

    def width(self, d_model: int) -> int:
        """Width of that part of a head that positions can rotate."""
        return d_model // self.n_heads

    def across(self) -> "SelfAttentionSpec":
        """The attention to a memory that goes with it."""
        return self


@dataclass(frozen=True, kw_only=True)
class AttentionSpec(SelfAttentionSpec):
    """The paper's multi-head attention (section 3.2.2).
    >>> config = tz.get_config("gpt-nano", attention=AttentionSpec(n_heads=4, n_kv_heads=2))
    """

    module = "transformer_zoo.blocks.attention:Attention"
    takes = ("d_model", "rotary", "scores")

    n_kv_heads: int | None = None
    """Key/value heads; None: as many as `n_heads`. Fewer share each among n_heads / n_kv_heads queries."""
    head_dim: int | None = None
    """Width of one head; None: d_model / n_heads."""
    bias: bool = True
    """Biases on its projections."""
    qkv_bias: bool | None = None
    """Biases on those of queries, keys and values; None: as `bias`."""
    dropout: float = 0.0
    """On the attention weights; not in the paper."""
    scale: float | None = None
    """Multiplies the scores; None: head_dim^-0.5. T5 has 1."""
    softcap: float | None = None
    """Bounds the scores: cap * tanh(score / cap)."""
    clip: float | None = None
    """Bounds what queries, keys and values are projected to: to -clip below, clip above."""
    qk_norm: NormSpec | None = None
    """A norm over queries and one over keys, before rotation."""
    qk_norm_over: QkNormOver = "head"
    """What it is over: each "head", with weights that all heads share; each "own_head", with weights of its own; or
    "all_heads" together, as in OLMo 2."""

    def width(self, d_model: int) -> int:
        return self.head_dim or d_model // self.n_heads

    def across(self) -> Self:
        """Without what is for self-attention only."""
        return dataclasses.replace(self, window=None, softcap=None, clip=None, qk_norm=None, qk_norm_over="head")

    def check(self, context: Context) -> None:
        if self.head_dim is None and context.d_model % self.n_heads:
            raise UserError(
                f"d_model {context.d_model} is not a multiple of n_heads {self.n_heads}: change one or set head_dim"
            )
        if self.n_kv_heads is not None and self.n_heads % self.n_kv_heads:
            raise UserError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")

        if self.qk_norm is None and self.qk_norm_over != "head":
            raise UserError(f"qk_norm_over {self.qk_norm_over!r} has no effect where qk_norm is none: leave it out")

    def arguments(self, context: Context) -> dict[str, Any]:
        width = self.width(context.d_model)
        given = super().arguments(dataclasses.replace(context, d_model=width))
        if self.qk_norm is not None and self.qk_norm_over == "all_heads":
            widths = (n * width for n in (self.n_heads, self.n_kv_heads or self.n_heads))
            given["qk_norm"] = tuple(self.qk_norm.build(dataclasses.replace(context, d_model=w)) for w in widths)
        qkv_bias = given.pop("qkv_bias")
        biased = ("q", "k", "v") * (self.bias if qkv_bias is None else qkv_bias) + ("out",) * self.bias
        return {**given, "d_model": context.d_model, "bias": biased}
