"""Whole models, built from the blocks."""

from transformer_zoo.models.cache import DecoderCache
from transformer_zoo.models.decoder_only import DecoderOnly
from transformer_zoo.models.decoding import DecodingFacts, DecodingModel, check_decoding, pad_rows
from transformer_zoo.models.encoder_decoder import EncoderDecoder
from transformer_zoo.models.encoder_only import EncoderOnly
from transformer_zoo.models.family import (
    AnyModel,
    build_model,
    check_decoder_only,
    check_encoder_decoder,
    check_encoder_only,
    check_model,
)
from transformer_zoo.models.shared_cache import SharedCache
from transformer_zoo.models.stacks import Decoder, Encoder

__all__ = [
    "AnyModel",
    "Decoder",
    "DecoderCache",
    "DecoderOnly",
    "DecodingFacts",
    "DecodingModel",
    "Encoder",
    "EncoderDecoder",
    "EncoderOnly",
    "SharedCache",
    "build_model",
    "check_decoder_only",
    "check_decoding",
    "check_encoder_decoder",
    "check_encoder_only",
    "check_model",
    "pad_rows",
]
