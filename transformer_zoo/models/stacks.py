"""The stacks: positions, layers and, with pre-norm, a norm after the last. Post-norm has none, as in the paper."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from transformer_zoo.blocks import (
    DecoderLayer,
    Dropout,
    EncoderLayer,
    KVCache,
    LearnedPositions,
    Llama3Scaling,
    ProjectedMemory,
    RotaryPositions,
    Rotation,
    SinusoidalPositions,
    build_norm,
)
from transformer_zoo.config import ModelConfig
from transformer_zoo.models.cache import DecoderCache


def _layer_options(config: ModelConfig) -> dict[str, Any]:
    """The fields of a configuration that its layers take, under the names that they have in both."""
    names = (
        "d_model n_heads d_ff n_kv_heads head_dim dropout attention_dropout activation_dropout activation gated norm "
        "norm_position norm_eps norm_bias bias qkv_bias qk_norm attention_softcap"
    )
    return {name: getattr(config, name) for name in names.split()}


def _build_positions(config: ModelConfig) -> nn.Module | None:
    if config.positions == "learned":
        return LearnedPositions(config.max_seq_len, config.d_model)
    if config.positions == "sinusoidal":
        return SinusoidalPositions(
            config.d_model, layout=config.sinusoid_layout, table_size=config.max_seq_len
        )
    return _build_rotary(config) if config.positions == "rotary" else None


def _build_rotary(config: ModelConfig) -> RotaryPositions:
    scaling = Llama3Scaling(
        config.rotary_factor,
        config.rotary_low_freq_factor,
        config.rotary_high_freq_factor,
        config.rotary_original_max_seq_len,
    )
    return RotaryPositions(
        config.head_dim or config.d_model // config.n_heads,
        base=config.rotary_base,
        dim=config.rotary_dim,
        layout=config.rotary_layout,
        scaling=scaling if config.rotary_scaling == "llama3" else None,
        table_size=config.max_seq_len,
    )


def _place(
    x: Tensor, module: nn.Module | None, start: int, positions: Tensor | None
) -> tuple[Tensor, Rotation | None]:
    """x (B, T, D) with its places added, and the rotation that tells attention of them, where it is done that way.

    The places are start, start + 1, ...; or the given positions (B, T).
    """
    if module is None:
        return x, None
    stop = start + x.size(1)
    if isinstance(module, RotaryPositions):
        return x, module(start, stop, positions)
    return x + (module(stop)[start:] if positions is None else module(1, positions)), None


def _build_final_norm(config: ModelConfig) -> nn.Module:
    if config.norm_position == "post":
        return nn.Identity()
    return build_norm(config.norm, config.d_model, eps=config.norm_eps, bias=config.norm_bias)


class Encoder(nn.Module):
    """`n_layers` encoder layers over embedding + position. Shapes: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ModelConfig, n_layers: int) -> None:
        super().__init__()
        self.positions = _build_positions(config)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(EncoderLayer(**_layer_options(config)) for _ in range(n_layers))
        self.final_norm = _build_final_norm(config)

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D), token embeddings; mask booleans broadcastable to (B, H, T, T), True = may attend."""
        x, rotary = _place(x, self.positions, 0, None)
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, mask=mask, rotary=rotary)
        out: Tensor = self.final_norm(x)
        return out


class Decoder(nn.Module):
    """`n_layers` decoder layers over embedding + position, with cross-attention or without. (B, T, D) -> (B, T, D).

    `recompute` makes training keep each layer's input only and compute the rest again in the backward pass: much less
    memory for a third more time (Chen et al. 2016).
    """

    def __init__(self, config: ModelConfig, n_layers: int, *, cross_attention: bool = True) -> None:
        super().__init__()
        self.positions = _build_positions(config)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(**_layer_options(config), cross_attention=cross_attention) for _ in range(n_layers)
        )
        self.final_norm = _build_final_norm(config)
        self.recompute = False

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
        if positions is None and cache is not None and cache.static:
            positions = cache.layers[0].slots(n)[None]  # (1, T)
        x, rotary = _place(x, self.positions, past, positions)
        x = self.dropout(x)
        if cache is not None:
            cache.reserve(n)
        for i, layer in enumerate(self.layers):
            options: dict[str, Any] = {
                "mask": mask,
                "memory_mask": memory_mask,
                "is_causal": is_causal,
                "rotary": rotary,
                "cache": cache.layers[i] if cache else None,
                "memory_cache": cache.memories[i] if cache else None,
            }
            if self.recompute and self.training and cache is None:
                x = checkpoint(layer, x, memory, use_reentrant=False, **options)
            else:
                x = layer(x, memory, **options)
        out: Tensor = self.final_norm(x)
        return out

    def new_cache(
        self,
        batch: int,
        capacity: int,
        *,
        memory: Tensor | None = None,
        dtype: torch.dtype | None = None,
        static: bool = False,
    ) -> DecoderCache:
        """A cache for `capacity` tokens a row; a memory (B, Ts, D), where there is one, is projected by every layer.

        dtype: of keys and values; None: that of the memory's projections, or of the weights.
        """
        caches, memories = [], []
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            attn, cross_attn = layer.attn, layer.cross_attn
            projected = None
            if cross_attn is not None and memory is not None:
                # Laid out once as the products want it, instead of at every step.
                projected = ProjectedMemory(*(x.contiguous() for x in cross_attn.project_memory(memory)))
            weight = attn.k_proj.weight
            # Under autocast projections are narrower than the memory, and the cache holds projections.
            kind = dtype or (weight.dtype if projected is None else projected.keys.dtype)
            shape = batch, attn.n_kv_heads, capacity, attn.head_dim
            # Not zeroed where attention is shown only slots that are written: most of a capacity never is.
            new = torch.zeros if static else torch.empty
            keys, values = (new(shape, device=weight.device, dtype=kind) for _ in range(2))
            caches.append(KVCache(keys, values))
            memories.append(projected)
        return DecoderCache(caches, memories, static=static)
