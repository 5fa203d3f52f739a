"""Encoder and decoder layer, section 3.1 of "Attention Is All You Need"."""

from functools import partial
from typing import TypedDict, Unpack

from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_flags, check_positive, check_probabilities, check_sizes
from transformer_zoo.blocks.attention import Attention
from transformer_zoo.blocks.cache import KVCache, ProjectedMemory
from transformer_zoo.blocks.dropout import Dropout
from transformer_zoo.blocks.feed_forward import FeedForward
from transformer_zoo.blocks.norm import build_norm
from transformer_zoo.blocks.residual import Function, check_norm_position, residual
from transformer_zoo.blocks.rotary import Rotation
from transformer_zoo.kernels.attention import Blocks


class LayerOptions(TypedDict, total=False):
    """What `DecoderLayer` takes as `EncoderLayer` does."""

    n_kv_heads: int | None
    head_dim: int | None
    dropout: float
    attention_dropout: float
    activation_dropout: float
    activation: str
    gated: bool
    norm: str
    norm_position: str
    norm_eps: float
    norm_bias: bool
    norm_affine: bool
    norm_unit_offset: bool
    bias: bool
    qkv_bias: bool | None
    ffn_bias: bool | None
    qk_norm: bool
    attention_scale: float | None
    attention_softcap: float | None


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each in a residual with a norm.

    Args:
        d_model, n_heads, n_kv_heads, head_dim, attention_dropout: as for `Attention`.
        d_ff, activation, gated, activation_dropout: as for `FeedForward`.
        dropout: on each sublayer's output, before it is added.
        norm: "layernorm" or "rmsnorm".
        norm_position: "post" as in the paper, "pre", "both" or "pre_carried", as for `residual`; "parallel": attention
            and feed-forward both read x, x + Attention(Norm(x)) + FFN(Norm'(x)) (Black et al. 2022, "GPT-NeoX-20B").
        norm_bias, norm_affine: whether LayerNorm has a bias; a weight and a bias.
        norm_unit_offset: RMSNorm multiplies by 1 + weight.
        bias: on every projection.
        qkv_bias: on those of queries, keys and values; None: as `bias`.
        ffn_bias: on those of the feed-forward; None: as `bias`.
        qk_norm, attention_scale, attention_softcap: `qk_norm`, `scale` and `softcap` of `Attention`; of these,
            cross-attention has the scale.

    Shapes: (B, T, D) -> (B, T, D).

    Raises:
        ValueError: what its parts raise, or a norm_position of another name.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        *,
        n_kv_heads: int | None = None,
        head_dim: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        activation: str = "relu",
        gated: bool = False,
        norm: str = "layernorm",
        norm_position: str = "post",
        norm_eps: float = 1e-5,
        norm_bias: bool = True,
        norm_affine: bool = True,
        norm_unit_offset: bool = False,
        bias: bool = True,
        qkv_bias: bool | None = None,
        ffn_bias: bool | None = None,
        qk_norm: bool = False,
        attention_scale: float | None = None,
        attention_softcap: float | None = None,
    ) -> None:
        super().__init__()
        self.norm_position = check_norm_position(norm_position)
        check_sizes(d_model=d_model)
        check_flags(bias=bias, norm_bias=norm_bias, norm_affine=norm_affine, norm_unit_offset=norm_unit_offset)
        check_flags(qkv_bias=qkv_bias, ffn_bias=ffn_bias, optional=True)
        check_probabilities(dropout=dropout, attention_dropout=attention_dropout, activation_dropout=activation_dropout)
        check_positive(attention_scale=attention_scale, attention_softcap=attention_softcap, optional=True)
        self.new_norm = partial(
            build_norm,
            norm,
            d_model,
            eps=norm_eps,
            bias=norm_bias,
            affine=norm_affine,
            unit_offset=norm_unit_offset,
        )
        biased = ("q", "k", "v") * (bias if qkv_bias is None else qkv_bias) + ("out",) * bias
        self.new_attention = partial(
            Attention,
            d_model,
            n_heads,
            n_kv_heads=n_kv_heads,
            head_dim=head_dim,
            bias=biased,
            dropout=attention_dropout,
            scale=attention_scale,
        )
        self.attn = self.new_attention(softcap=attention_softcap, qk_norm=qk_norm, norm_eps=norm_eps)
        self.attn_norm = self.new_norm()
        self.ffn = FeedForward(
            d_model,
            d_ff,
            activation=activation,
            gated=gated,
            bias=bias if ffn_bias is None else ffn_bias,
            dropout=activation_dropout,
        )
        self.ffn_norm = self.new_norm()
        self.attn_out_norm = self.new_norm() if norm_position == "both" else None
        self.ffn_out_norm = self.new_norm() if norm_position == "both" else None
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        is_causal: bool = False,
        rotary: Rotation | None = None,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D); mask, bias, is_causal and rotary as for `Attention`."""
        attended = self._residual(
            x,
            lambda y: self.attn(y, mask=mask, bias=bias, is_causal=is_causal, rotary=rotary),
            self.attn_norm,
            self.attn_out_norm,
        )
        return self._feed_forward(x, attended)

    def _residual(self, x: Tensor, sublayer: Function, norm: nn.Module, out_norm: nn.Module | None = None) -> Tensor:
        return residual(x, sublayer, norm, self.dropout, self.norm_position, out_norm=out_norm)

    def _feed_forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """The last sublayer. x is the layer's input, which it reads where it stands beside attention."""
        if self.norm_position == "parallel":
            out: Tensor = attended + self.dropout(self.ffn(self.ffn_norm(x)))
            return out
        return self._residual(attended, self.ffn, self.ffn_norm, self.ffn_out_norm)


class DecoderLayer(EncoderLayer):
    """Causal self-attention, attention to the encoder's output, feed-forward, each in a residual with a norm.

    Args:
        cross_attention: whether it attends to a memory; without, it is a layer of a decoder-only model.
        d_memory: width of the memory; None: d_model.
        Others: as for `EncoderLayer`.

    Shapes: (B, T, D) -> (B, T, D).

    Raises:
        ValueError: as `EncoderLayer`, or "parallel" with cross-attention.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        *,
        cross_attention: bool = True,
        d_memory: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(d_model, n_heads, d_ff, **options)
        check_flags(cross_attention=cross_attention)
        check_sizes(d_memory=d_memory, optional=True)
        self.cross_attn: Attention | None = None
        self.cross_attn_norm: nn.Module | None = None
        self.cross_attn_out_norm: nn.Module | None = None
        if not cross_attention:
            return
        if self.norm_position == "parallel":
            raise ValueError("norm_position 'parallel' has no place for cross-attention")
        self.cross_attn = self.new_attention(d_memory=d_memory)
        self.cross_attn_norm = self.new_norm()
        if self.norm_position == "both":
            self.cross_attn_out_norm = self.new_norm()

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        bias: Tensor | None = None,
        is_causal: bool = True,
        rotary: Rotation | None = None,
        cache: KVCache | None = None,
        memory_cache: ProjectedMemory | None = None,
        blocks: Blocks | None = None,
    ) -> Tensor:
        """One layer of decoding.

        Args:
            x: (B, T, D).
            memory: (B, Ts, d_memory), the encoder's output; not needed with a memory_cache.
            mask, bias, is_causal, rotary, blocks: of the self-attention, as for `Attention`.
            memory_mask: booleans broadcastable to (B, H, T, Ts), True = may attend.
            cache: what self-attention remembers; x is appended to it.
            memory_cache: the memory's keys and values, projected once.

        Raises:
            ValueError: cross-attention without a memory, a memory without cross-attention, or masks as for `Attention`.
        """
        cross_attn = self.cross_attn
        if cross_attn is None:
            if memory is not None or memory_mask is not None or memory_cache is not None:
                raise ValueError("this layer has no cross-attention: it takes no memory, memory_mask or memory_cache")
        elif memory is None and memory_cache is None:
            raise ValueError("this layer has cross-attention: give it the encoder's output as memory")
        else:  # before the cache takes anything
            cross_attn.check_mask(x, memory, memory_mask, memory_cache, name="memory_mask")
        attended = self._residual(
            x,
            lambda y: self.attn(
                y, mask=mask, bias=bias, is_causal=is_causal, rotary=rotary, cache=cache, blocks=blocks
            ),
            self.attn_norm,
            self.attn_out_norm,
        )
        if cross_attn is not None and self.cross_attn_norm is not None:
            attended = self._residual(
                attended,
                lambda y: cross_attn(y, memory, mask=memory_mask, cache=memory_cache),
                self.cross_attn_norm,
                self.cross_attn_out_norm,
            )
        return self._feed_forward(x, attended)
