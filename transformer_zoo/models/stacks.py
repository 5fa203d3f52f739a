"""The stacks: positions, layers and, with pre-norm, a norm after the last. Post-norm has none, as in the paper."""

from typing import Any

import torch
from torch import Tensor, nn

from transformer_zoo.blocks import (
    DecoderLayer,
    Dropout,
    EncoderLayer,
    KVCache,
    LearnedPositions,
    ProjectedMemory,
    SinusoidalPositions,
    build_norm,
)
from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.models.cache import DecoderCache


def _layer_options(config: EncoderDecoderConfig) -> dict[str, Any]:
    """The fields of a configuration that its layers take, under the names that they have in both."""
    names = (
        "d_model n_heads d_ff n_kv_heads head_dim dropout attention_dropout activation_dropout activation gated norm "
        "norm_position norm_eps bias"
    )
    return {name: getattr(config, name) for name in names.split()}


def _build_positions(config: EncoderDecoderConfig) -> nn.Module:
    if config.positions == "learned":
        return LearnedPositions(config.max_seq_len, config.d_model)
    return SinusoidalPositions(config.d_model, layout=config.sinusoid_layout, table_size=config.max_seq_len)


def _build_final_norm(config: EncoderDecoderConfig) -> nn.Module:
    return (
        build_norm(config.norm, config.d_model, eps=config.norm_eps)
        if config.norm_position == "pre"
        else nn.Identity()
    )


class Encoder(nn.Module):
    """`n_encoder_layers` encoder layers over embedding + position. Shapes: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.positions = _build_positions(config)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(**_layer_options(config)) for _ in range(config.n_encoder_layers)
        )
        self.final_norm = _build_final_norm(config)

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D), token embeddings; mask booleans broadcastable to (B, H, T, T), True = may attend."""
        x = self.dropout(x + self.positions(x.size(1)))
        for layer in self.layers:
            x = layer(x, mask=mask)
        out: Tensor = self.final_norm(x)
        return out


class Decoder(nn.Module):
    """`n_decoder_layers` decoder layers over embedding + position. Shapes: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.positions = _build_positions(config)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(**_layer_options(config)) for _ in range(config.n_decoder_layers)
        )
        self.final_norm = _build_final_norm(config)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        positions: Tensor | None = None,
        is_causal: bool = True,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """x (B, T, D), token embeddings; the rest as for `EncoderDecoder.decode`, masks as for `DecoderLayer`."""
        n, past = x.size(1), cache.length if cache else 0
        x = self.dropout(
            x + (self.positions(past + n)[past:] if positions is None else self.positions(1, positions))
        )
        if cache is not None:
            cache.reserve(n)
        for i, layer in enumerate(self.layers):
            x = layer(
                x,
                memory,
                mask=mask,
                memory_mask=memory_mask,
                is_causal=is_causal,
                cache=cache.layers[i] if cache else None,
                memory_cache=cache.memories[i] if cache else None,
            )
        out: Tensor = self.final_norm(x)
        return out

    def new_cache(self, memory: Tensor, capacity: int) -> DecoderCache:
        """A cache for `capacity` tokens a row, with this memory (B, Ts, D) projected by every layer."""
        caches, memories = [], []
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            attn, cross_attn = layer.attn, layer.cross_attn
            projected = None
            if cross_attn is not None:
                # Laid out once as the products want it, instead of at every step.
                projected = ProjectedMemory(*(x.contiguous() for x in cross_attn.project_memory(memory)))
            # Under autocast projections are narrower than the memory, and the cache holds projections.
            dtype = memory.dtype if projected is None else projected.keys.dtype
            shape = memory.size(0), attn.n_kv_heads, capacity, attn.head_dim
            # Not zeroed: attention is shown only slots that are written, and most of a capacity never is.
            keys, values = (torch.empty(shape, device=memory.device, dtype=dtype) for _ in range(2))
            caches.append(KVCache(keys, values))
            memories.append(projected)
        return DecoderCache(caches, memories)
