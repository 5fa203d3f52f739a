"""The one refusal of a model of a wrong kind. A model says what it is in `kind`."""

from typing import Any, overload

from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig, ModelConfig
from transformer_zoo.errors import UserError
from transformer_zoo.models.decoder_only import DecoderOnly
from transformer_zoo.models.encoder_decoder import EncoderDecoder
from transformer_zoo.models.encoder_only import EncoderOnly

AnyModel = DecoderOnly | EncoderDecoder | EncoderOnly
"""A model of any of the three kinds."""
_DECODER_ONLY, _ENCODER_DECODER, _ENCODER = DecoderOnly.kind, EncoderDecoder.kind, EncoderOnly.kind


def check_decoder_only(model: Any, use: str) -> None:
    """Check that the model continues a text. UserError: it does not; `use` names what it was needed for.
    >>> check_decoder_only(tz.create_model("gpt-nano"), "continue")
    """
    _check(model, use, _DECODER_ONLY)


def check_encoder_decoder(model: Any, use: str) -> None:
    """Check that the model translates. UserError: it does not; `use` names what it was needed for.
    >>> check_encoder_decoder(tz.create_model("transformer-tiny"), "translate")
    """
    _check(model, use, _ENCODER_DECODER)


def check_encoder_only(model: Any, use: str) -> None:
    """Check that the model only reads. UserError: it does not; `use` names what it was needed for.
    >>> check_encoder_only(tz.create_model("bert-tiny", vocab_size=100), "embed")
    """
    _check(model, use, _ENCODER)


def check_model(model: Any, use: str, *, writes: bool = True) -> None:
    """Check that it is a model of this package, by default one that writes. UserError: it is not.
    >>> check_model(tz.create_model("gpt-nano"), "pack")
    """
    kind = getattr(model, "kind", None)
    if kind not in (_DECODER_ONLY, _ENCODER_DECODER) and (writes or kind != _ENCODER):
        raise UserError(f"{use} takes a DecoderOnly or an EncoderDecoder, not a {type(model).__name__}")


def _check(model: Any, use: str, wanted: str) -> None:
    kind = getattr(model, "kind", None)
    if kind is None:
        raise UserError(f"{use} takes {wanted} of this package, not a {type(model).__name__}")
    if kind != wanted:
        raise UserError(f"{use} takes {wanted}, and this is {kind}")


@overload
def build_model(config: DecoderConfig) -> DecoderOnly: ...


@overload
def build_model(config: EncoderDecoderConfig) -> EncoderDecoder: ...


@overload
def build_model(config: EncoderConfig) -> EncoderOnly: ...


@overload
def build_model(config: ModelConfig) -> Any: ...
def build_model(config: ModelConfig) -> Any:
    """The model of a configuration, with fresh weights.
    >>> build_model(tz.get_config("gpt-nano")).kind
    'a decoder-only model'
    """
    return MODELS[type(config)](config)


MODELS: dict[type[ModelConfig], Any] = {
    EncoderDecoderConfig: EncoderDecoder,
    DecoderConfig: DecoderOnly,
    EncoderConfig: EncoderOnly,
}
"""The class of model that belongs to each configuration."""
