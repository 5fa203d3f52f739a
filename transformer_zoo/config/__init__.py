"""What a model is, as data: importable without torch, written to a run, read back, refused when a field is wrong."""

from transformer_zoo.config.decoding import BeamSearch, ModelRules, Penalty, Rules, Sampling
from transformer_zoo.config.families import DecoderConfig, EncoderDecoderConfig
from transformer_zoo.config.fields import (
    CHOICES,
    PROBABILITIES,
    WITHOUT_EFFECT,
    check_field_names,
    defaults_of_fields,
    without_effect,
)
from transformer_zoo.config.model import ModelConfig
from transformer_zoo.config.size import n_parameters

__all__ = [
    "CHOICES",
    "PROBABILITIES",
    "WITHOUT_EFFECT",
    "BeamSearch",
    "DecoderConfig",
    "EncoderDecoderConfig",
    "ModelConfig",
    "ModelRules",
    "Penalty",
    "Rules",
    "Sampling",
    "check_field_names",
    "n_parameters",
    "defaults_of_fields",
    "without_effect",
]
