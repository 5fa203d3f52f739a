"""From a configuration to the stacks of its model."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from transformer_zoo.blocks import (
    AlibiBias,
    Attention,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    LearnedPositions,
    LinearScaling,
    Llama3Scaling,
    Positions,
    RelativeBias,
    RMSNorm,
    RotaryPositions,
    SinusoidalPositions,
    YarnScaling,
    build_norm,
)
from transformer_zoo.blocks.rotary import Scaling
from transformer_zoo.config import ModelConfig
from transformer_zoo.models.stacks import Decoder, Encoder

_LONGEST_TABLE = 8192  # fixed positions beyond are computed when they are asked for


def build_encoder(config: ModelConfig, n_layers: int) -> Encoder:
    """The encoder of a configuration."""
    return Encoder(_encoder_layers(config, n_layers), **_around(config, bidirectional=True))


def build_decoder(config: ModelConfig, n_layers: int, *, cross_attention: bool) -> Decoder:
    """The decoder of a configuration."""
    return Decoder(_decoder_layers(config, n_layers, cross_attention), **_around(config, bidirectional=False))


def _encoder_layers(config: ModelConfig, n_layers: int) -> Iterator[EncoderLayer]:
    rotary = _rotary(config)
    for i in range(n_layers):
        parts = _self_attention(config, i, rotary), _feed_forward(config), _norm(config)
        yield EncoderLayer(*parts, norm_position=config.norm_position, dropout=config.dropout)


def _decoder_layers(config: ModelConfig, n_layers: int, cross_attention: bool) -> Iterator[DecoderLayer]:
    rotary = _rotary(config)
    for i in range(n_layers):
        parts = _self_attention(config, i, rotary), _feed_forward(config), _norm(config)
        cross = _attention(config, i) if cross_attention else None
        yield DecoderLayer(*parts, cross_attention=cross, norm_position=config.norm_position, dropout=config.dropout)


def _around(config: ModelConfig, *, bidirectional: bool) -> dict[str, Any]:
    """What a stack has around its layers."""
    return {
        "positions": _positions(config, bidirectional=bidirectional),
        "embedding_norm": _norm(config) if config.embedding_norm else None,
        "final_norm": _norm(config) if config.ends_in_norm else None,
        "dropout": config.dropout,
    }


def _self_attention(config: ModelConfig, layer: int, rotary: RotaryPositions | None) -> Attention:
    is_windowed = config.windowed_layers is None or layer in config.windowed_layers
    return _attention(
        config,
        layer,
        softcap=config.attention_softcap,
        qk_norm=RMSNorm(config.d_head, eps=config.norm_eps) if config.qk_norm else None,
        rotary=rotary,
        window=config.sliding_window if is_windowed else None,
    )


def _attention(config: ModelConfig, layer: int, **options: Any) -> Attention:
    qkv_bias = config.bias if config.qkv_bias is None else config.qkv_bias
    scale = config.attention_scale
    if config.attention_scale_by_layer:
        scale = (scale or config.d_head**-0.5) / (layer + 1)
    return Attention(
        config.d_model,
        config.n_heads,
        n_kv_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        bias=("q", "k", "v") * qkv_bias + ("out",) * config.bias,
        dropout=config.attention_dropout,
        scale=scale,
        **options,
    )


def _feed_forward(config: ModelConfig) -> FeedForward:
    return FeedForward(
        config.d_model,
        config.d_ff,
        activation=config.activation,
        gated=config.gated,
        bias=config.bias if config.ffn_bias is None else config.ffn_bias,
        dropout=config.activation_dropout,
    )


def _norm(config: ModelConfig) -> nn.Module:
    return build_norm(
        config.norm,
        config.d_model,
        eps=config.norm_eps,
        bias=config.norm_bias,
        affine=config.norm_affine,
        unit_offset=config.norm_unit_offset,
    )


def _positions(config: ModelConfig, *, bidirectional: bool) -> Positions | None:
    match config.positions:
        case "learned":
            return LearnedPositions(config.max_seq_len, config.d_model, offset=config.position_offset)
        case "sinusoidal":
            return SinusoidalPositions(
                config.d_model,
                layout=config.sinusoid_layout,
                offset=config.position_offset,
                table_size=min(config.max_seq_len, _LONGEST_TABLE),
            )
        case "alibi":
            return AlibiBias(config.n_heads)
        case "relative":
            return RelativeBias(
                config.n_heads,
                buckets=config.relative_buckets,
                max_distance=config.relative_max_distance,
                bidirectional=bidirectional,
            )
    return None


def _rotary(config: ModelConfig) -> RotaryPositions | None:
    if config.positions != "rotary":
        return None
    return RotaryPositions(
        config.d_head,
        base=config.rotary_base,
        dim=config.rotary_dim,
        layout=config.rotary_layout,
        scaling=_scaling(config),
        table_size=min(config.max_seq_len, _LONGEST_TABLE),
    )


def _scaling(config: ModelConfig) -> Scaling | None:
    match config.rotary_scaling:
        case "linear":
            return LinearScaling(config.rotary_factor)
        case "llama3":
            return Llama3Scaling(
                config.rotary_factor,
                config.rotary_low_freq_factor,
                config.rotary_high_freq_factor,
                config.rotary_original_max_seq_len,
            )
        case "yarn":
            return YarnScaling(
                config.rotary_factor,
                config.rotary_original_max_seq_len,
                config.rotary_beta_fast,
                config.rotary_beta_slow,
                config.rotary_attention_factor,
                config.rotary_truncate,
            )
    return None
