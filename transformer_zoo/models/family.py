"""The one refusal of a model of the other family."""

from typing import Any

from transformer_zoo.errors import UserError
from transformer_zoo.models.decoder_only import DecoderOnly
from transformer_zoo.models.encoder_decoder import EncoderDecoder


def check_decoder_only(model: Any, use: str) -> None:
    """Whether the model writes on from a text. UserError: it does not; `use` is what was to be done with it."""
    if isinstance(model, EncoderDecoder):
        raise UserError(f"{use} takes a decoder-only model, and this is an encoder-decoder: {_INSTEAD}")
    if not isinstance(model, DecoderOnly):
        raise UserError(f"{use} takes a decoder-only model of this package, not a {type(model).__name__}")


def check_encoder_decoder(model: Any, use: str) -> None:
    """Whether the model translates. UserError: it does not; `use` is what was to be done with it."""
    if isinstance(model, DecoderOnly):
        raise UserError(f"{use} takes an encoder-decoder, and this is a decoder-only model: {_INSTEAD}")
    if not isinstance(model, EncoderDecoder):
        raise UserError(f"{use} takes an encoder-decoder of this package, not a {type(model).__name__}")


def check_model(model: Any, use: str) -> None:
    """Whether it is a model of either family. UserError: it is none."""
    if not isinstance(model, DecoderOnly | EncoderDecoder):
        raise UserError(f"{use} takes a DecoderOnly or an EncoderDecoder, not a {type(model).__name__}")


_INSTEAD = "encoder-decoders translate (translate, beam_search, score), decoder-only models write (generate, write)"
