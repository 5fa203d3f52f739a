"""From specs to modules. Each spec names its own module; this file puts the modules together."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from transformer_zoo.blocks import DecoderLayer, EncoderLayer, Linear
from transformer_zoo.config import ModelConfig, RelativeSpec, StackSpec
from transformer_zoo.config.positions import PositionsSpec
from transformer_zoo.config.spec import Context
from transformer_zoo.models.stacks import Decoder, Encoder


def build_encoder(config: ModelConfig, spec: StackSpec, *, d_embedding: int | None = None) -> Encoder:
    """The encoder of a configuration, for embeddings that may be narrower than its layers."""
    context = config.context_of("encoder")
    layers = [EncoderLayer(*parts, **_residual(spec, context)) for parts, _ in _parts(spec, context)]
    _take_norms(layers, spec)
    around = _around(spec, replace(context, d_model=d_embedding or context.d_model))
    wider = None if d_embedding is None else Linear(d_embedding, context.d_model)
    final_norm = spec.norm.build(context) if spec.ends_in_norm else None
    return Encoder(layers, embedding_proj=wider, final_norm=final_norm, **around)


def build_decoder(config: ModelConfig, spec: StackSpec, *, cross_attention: bool) -> Decoder:
    """The decoder of a configuration."""
    context = config.context_of("decoder")
    how = _residual(spec, context)
    layers = [
        DecoderLayer(*parts, cross_attention=across.build(context) if cross_attention else None, **how)
        for parts, across in _parts(spec, context)
    ]
    _take_norms(layers, spec)
    final_norm = spec.norm.build(context) if spec.ends_in_norm else None
    return Decoder(layers, final_norm=final_norm, **_around(spec, context))


def _parts(spec: StackSpec, context: Context) -> Iterator[tuple[tuple[Any, Any, Any], Any]]:
    """Attention, feed-forward and norm of each layer, and the spec of the attention to a memory that belongs to
    them."""
    rotations: dict[tuple[PositionsSpec | None, int], Any] = {}
    for layer in spec.layers:
        positions, around = spec.positions_of(layer), spec.around(layer, context)
        key = positions, around.head_dim
        if key not in rotations:  # layers with equal rotations share their tables
            rotations[key] = positions.build(around) if positions is not None and positions.turns else None
        scores = layer.positions.build(around) if isinstance(layer.positions, RelativeSpec) else None
        attention = layer.attention.build(replace(around, rotary=rotations[key], scores=scores))
        yield (attention, layer.ffn.build(around), spec.norm.build(around)), layer.attention.across()


def _residual(spec: StackSpec, context: Context) -> dict[str, Any]:
    """How a sublayer's output is added."""
    scale = spec.residual_scale or 1.0
    return {"norm_position": spec.norm_position, "dropout": context.dropout, "residual_scale": scale}


def _take_norms(layers: Sequence[EncoderLayer], spec: StackSpec) -> None:
    """Remove the attention norms that the spec leaves out."""
    for layer, of in zip(layers, spec.layers, strict=True):
        if not of.attention_norm:
            layer.attn_norm = nn.Identity()


def _around(spec: StackSpec, context: Context) -> dict[str, Any]:
    """The parts of a stack around its layers."""
    positions = None if spec.positions is None or spec.positions.turns else spec.positions.build(context)
    return {
        "positions": positions,
        "embedding_norm": spec.norm.build(context) if spec.embedding_norm else None,
        "dropout": context.dropout,
    }
