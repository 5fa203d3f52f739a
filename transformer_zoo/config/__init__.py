"""What a model is, as data: importable without torch, written to a run, read back, refused when a field is wrong."""

from transformer_zoo.config.attention import AttentionSpec, SelfAttentionSpec
from transformer_zoo.config.changes import PROBABILITIES, SHORT, hint_of, short_names, value_at
from transformer_zoo.config.decoding import BeamSearch, Penalty, Rules, RulesSpec, Sampling
from transformer_zoo.config.encoder import EncoderConfig
from transformer_zoo.config.feed_forward import FeedForwardSpec, FfnSpec
from transformer_zoo.config.layer import LayerSpec, StackSpec
from transformer_zoo.config.model import DecoderConfig, EncoderDecoderConfig, ModelConfig, NgramSpec
from transformer_zoo.config.norm import LayerNormSpec, NormSpec, RMSNormSpec
from transformer_zoo.config.positions import (
    AlibiSpec,
    LearnedSpec,
    LinearSpec,
    Llama3Spec,
    PositionsSpec,
    RelativeSpec,
    RotarySpec,
    ScalingSpec,
    SinusoidalSpec,
    YarnSpec,
)
from transformer_zoo.config.spec import Context, Spec, choices_of, kinds_of, roles_of

__all__ = [
    "PROBABILITIES",
    "SHORT",
    "AlibiSpec",
    "AttentionSpec",
    "Context",
    "BeamSearch",
    "DecoderConfig",
    "EncoderConfig",
    "EncoderDecoderConfig",
    "FeedForwardSpec",
    "FfnSpec",
    "LayerNormSpec",
    "LayerSpec",
    "LearnedSpec",
    "LinearSpec",
    "Llama3Spec",
    "ModelConfig",
    "Penalty",
    "Rules",
    "RulesSpec",
    "Sampling",
    "NgramSpec",
    "NormSpec",
    "PositionsSpec",
    "RMSNormSpec",
    "RelativeSpec",
    "RotarySpec",
    "ScalingSpec",
    "SelfAttentionSpec",
    "SinusoidalSpec",
    "Spec",
    "StackSpec",
    "YarnSpec",
    "choices_of",
    "hint_of",
    "kinds_of",
    "roles_of",
    "short_names",
    "value_at",
]
