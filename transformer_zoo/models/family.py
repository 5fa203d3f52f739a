"""The one refusal of a model of another kind: a model says what it is in `kind`."""

from typing import Any

from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig, ModelConfig
from transformer_zoo.errors import UserError
from transformer_zoo.models.decoder_only import DecoderOnly
from transformer_zoo.models.encoder_decoder import EncoderDecoder


def check_decoder_only(model: Any, use: str) -> None:
    """Whether the model writes on from a text. UserError: it does not; `use` is what was to be done with it."""
    _check(model, use, "a decoder-only model")


def check_encoder_decoder(model: Any, use: str) -> None:
    """Whether the model translates. UserError: it does not; `use` is what was to be done with it."""
    _check(model, use, "an encoder-decoder")


def check_model(model: Any, use: str) -> None:
    """Whether it is a model of any kind. UserError: it is none."""
    if not hasattr(model, "kind"):
        raise UserError(f"{use} takes a DecoderOnly or an EncoderDecoder, not a {type(model).__name__}")


def _check(model: Any, use: str, wanted: str) -> None:
    kind = getattr(model, "kind", None)
    if kind is None:
        raise UserError(f"{use} takes {wanted} of this package, not a {type(model).__name__}")
    if kind != wanted:
        raise UserError(f"{use} takes {wanted}, and this is {kind}")


def build_model(config: ModelConfig) -> DecoderOnly | EncoderDecoder:
    """The model of a configuration, with fresh weights."""
    model: DecoderOnly | EncoderDecoder = MODELS[type(config)](config)
    return model


MODELS: dict[type[ModelConfig], Any] = {EncoderDecoderConfig: EncoderDecoder, DecoderConfig: DecoderOnly}
"""The model that each configuration is of."""
