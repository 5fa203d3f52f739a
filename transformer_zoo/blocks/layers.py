"""Encoder and decoder layer, section 3.1 of "Attention Is All You Need"."""

from copy import deepcopy
from typing import ClassVar, Self

from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_positive, check_probabilities
from transformer_zoo.blocks.attention import Attention
from transformer_zoo.blocks.cache import KVCache, ProjectedMemory
from transformer_zoo.blocks.dropout import Dropout
from transformer_zoo.blocks.feed_forward import FeedForward
from transformer_zoo.blocks.norm import LayerNorm
from transformer_zoo.blocks.residual import add_residual, check_norm_position
from transformer_zoo.blocks.view import BaseAttention, View

PARALLEL = ("parallel", "parallel_shared")
"""The positions of norms with which attention and feed-forward are computed side by side."""


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each in a residual connection with a norm.
    >>> EncoderLayer.paper(512, 8, 2048)(torch.zeros(2, 5, 512)).shape
    torch.Size([2, 5, 512])

    Args:
        attention: an `Attention`, or a module of your own (`BaseAttention`).
        feed_forward: (B, T, D) -> (B, T, D).
        norm: (B, T, D) -> (B, T, D): used for the attention; every other norm of the layer is a copy of it.
        norm_position: "post" as in the paper, "pre", "both", "out" or "pre_carried", as for `add_residual`. "parallel":
            attention and feed-forward both read x, x + Attention(Norm(x)) + FFN(Norm'(x)) (Black et al. 2022,
            "GPT-NeoX-20B"). "parallel_shared": the same with one norm for both (Wang & Komatsuzaki 2021, "GPT-J-6B").
        dropout: probability of dropping an element of a sublayer's output, before it is added.
        residual_scale: factor of what is added.

    Shapes: (B, T, D) -> (B, T, D).

    Raises:
        ValueError: norm_position has no such value, or dropout or residual_scale is out of range.
    """

    labels: ClassVar[dict[str, str]] = {
        "attn": "self-attention", "cross_attn": "cross-attention", "ffn": "feed-forward", "attn_norm": "norms",
        "cross_attn_norm": "norms", "ffn_norm": "norms", "attn_out_norm": "norms", "cross_attn_out_norm": "norms",
        "ffn_out_norm": "norms",
    }  # fmt: skip
    reads = writes = tuple(labels)
    is_causal = False

    def __init__(
        self,
        attention: BaseAttention,
        feed_forward: nn.Module,
        norm: nn.Module,
        *,
        norm_position: str = "post",
        dropout: float = 0.1,
        residual_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_probabilities(dropout=dropout)
        check_positive(residual_scale=residual_scale)
        self.norm_position = check_norm_position(norm_position)
        has_out_norms = norm_position == "both"
        self.attn, self.attn_norm = attention, norm
        self.ffn, self.ffn_norm = feed_forward, None if norm_position == "parallel_shared" else deepcopy(norm)
        self.attn_out_norm = deepcopy(norm) if has_out_norms else None
        self.ffn_out_norm = deepcopy(norm) if has_out_norms else None
        self.dropout, self.residual_scale = Dropout(dropout), residual_scale
        self.cross_attn: Attention | None = None
        self.cross_attn_norm: nn.Module | None = None
        self.cross_attn_out_norm: nn.Module | None = None

    @classmethod
    def paper(cls, d_model: int, n_heads: int, d_ff: int, *, norm_position: str = "post", dropout: float = 0.1) -> Self:
        """The paper's layer: ReLU, LayerNorm, biases everywhere. `EncoderLayer.paper(512, 8, 2048)` is its base
        model's."""
        attention, feed_forward = Attention(d_model, n_heads), FeedForward(d_model, d_ff)
        return cls(attention, feed_forward, LayerNorm(d_model), norm_position=norm_position, dropout=dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | ProjectedMemory | None = None,
        *,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        bias: Tensor | None = None,
        is_causal: bool | None = None,
        cache: KVCache | None = None,
        view: View | None = None,
    ) -> Tensor:
        """Apply the layer.

        Args:
            x: (B, T, D).
            memory: for a decoder, the encoder's output (B, Ts, d_memory) or the result of `project_memory`.
            mask, bias, is_causal, view: for the self-attention, as in `Attention`; is_causal None: True in a decoder.
            memory_mask: booleans broadcastable to (B, H, T, Ts), True = may attend.
            cache: what the self-attention remembers; x is appended to it.

        Raises:
            ValueError: cross-attention lacks a memory, there is a memory but no cross-attention, or as for `Attention`.
        """
        cross_attn, memory_view, position = self.cross_attn, None, self.norm_position
        if cross_attn is None and (memory is not None or memory_mask is not None):
            raise ValueError("this layer has no cross-attention: it takes no memory and no memory_mask")
        if cross_attn is not None:  # before the cache takes anything
            if memory is None:
                raise ValueError("this layer has cross-attention: give it the encoder's output as memory")
            memory_view = cross_attn.view(x, memory, mask=memory_mask, name="memory_mask")
        if view is None:
            is_causal = self.is_causal if is_causal is None else is_causal
            view = self.attn.view(x, mask=mask, bias=bias, is_causal=is_causal, cache=cache)
        options = {} if cache is None else {"cache": cache}
        attended = add_residual(
            x, lambda y: self.attn(y, view=view, **options), self.attn_norm, self._added, position, self.attn_out_norm
        )
        if cross_attn is not None and self.cross_attn_norm is not None:
            attended = add_residual(
                attended,
                lambda y: cross_attn(y, memory, view=memory_view),
                self.cross_attn_norm,
                self._added,
                position,
                self.cross_attn_out_norm,
            )
        norm = self.attn_norm if self.ffn_norm is None else self.ffn_norm
        if position in PARALLEL:
            return attended + self._added(self.ffn(norm(x)))
        return add_residual(attended, self.ffn, norm, self._added, position, self.ffn_out_norm)

    def _added(self, x: Tensor) -> Tensor:
        """The part of a sublayer's output that is added."""
        kept: Tensor = self.dropout(x)
        return kept if self.residual_scale == 1 else kept * self.residual_scale


class DecoderLayer(EncoderLayer):
    """Causal self-attention, attention to the encoder's output, feed-forward, each in a residual connection with a
    norm.
    >>> DecoderLayer.paper(512, 8, 2048)(torch.zeros(2, 5, 512), memory=torch.zeros(2, 7, 512)).shape
    torch.Size([2, 5, 512])

    Args:
        cross_attention: attends to a memory, whose width it knows; None: a layer of a decoder-only model.
        Others: as for `EncoderLayer`.

    Shapes: (B, T, D) -> (B, T, D).

    Raises:
        ValueError: as for `EncoderLayer`, or `norm_position` is one of `PARALLEL` and there is cross-attention.
    """

    is_causal = True

    def __init__(
        self,
        attention: BaseAttention,
        feed_forward: nn.Module,
        norm: nn.Module,
        *,
        cross_attention: Attention | None = None,
        norm_position: str = "post",
        dropout: float = 0.1,
        residual_scale: float = 1.0,
    ) -> None:
        how = {"dropout": dropout, "residual_scale": residual_scale}
        super().__init__(attention, feed_forward, norm, norm_position=norm_position, **how)
        if cross_attention is None:
            return
        if norm_position in PARALLEL:
            raise ValueError(f"norm_position {norm_position!r} has no place for cross-attention")
        self.cross_attn, self.cross_attn_norm = cross_attention, deepcopy(norm)
        self.cross_attn_out_norm = deepcopy(norm) if norm_position == "both" else None

    @classmethod
    def paper(cls, d_model: int, n_heads: int, d_ff: int, *, norm_position: str = "post", dropout: float = 0.1) -> Self:
        """The paper's layer, with cross-attention; as for `EncoderLayer.paper`."""
        attention, feed_forward = Attention(d_model, n_heads), FeedForward(d_model, d_ff)
        cross_attention, norm = Attention(d_model, n_heads), LayerNorm(d_model)
        return cls(
            attention, feed_forward, norm, cross_attention=cross_attention, norm_position=norm_position, dropout=dropout
        )
