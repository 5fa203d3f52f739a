"""What a model is, as data. A configuration can be imported without torch, is written to a run and read back, and
refuses a wrong field."""

from transformer_zoo.config.attention import AttentionSpec
from transformer_zoo.config.decoding import BeamSearch, Penalty, Rules, RulesSpec, Sampling
from transformer_zoo.config.encoder import EncoderConfig
from transformer_zoo.config.feed_forward import FeedForwardSpec
from transformer_zoo.config.heads import ProjectionSpec, TextsSpec, TokensSpec, WordsSpec
from transformer_zoo.config.layer import LayerSpec, StackSpec
from transformer_zoo.config.model import DecoderConfig, EncoderDecoderConfig, ModelConfig, NgramSpec
from transformer_zoo.config.norm import LayerNormSpec, RMSNormSpec
from transformer_zoo.config.positions import (
    AlibiSpec,
    LearnedSpec,
    LinearSpec,
    Llama3Spec,
    RelativeSpec,
    RotarySpec,
    SinusoidalSpec,
    YarnSpec,
)
from transformer_zoo.config.spec import Spec

__all__ = [
    "AlibiSpec",
    "AttentionSpec",
    "BeamSearch",
    "DecoderConfig",
    "EncoderConfig",
    "EncoderDecoderConfig",
    "FeedForwardSpec",
    "LayerNormSpec",
    "LayerSpec",
    "LearnedSpec",
    "LinearSpec",
    "Llama3Spec",
    "ModelConfig",
    "Penalty",
    "ProjectionSpec",
    "Rules",
    "RulesSpec",
    "Sampling",
    "NgramSpec",
    "RMSNormSpec",
    "RelativeSpec",
    "RotarySpec",
    "SinusoidalSpec",
    "Spec",
    "StackSpec",
    "TextsSpec",
    "TokensSpec",
    "WordsSpec",
    "YarnSpec",
]
