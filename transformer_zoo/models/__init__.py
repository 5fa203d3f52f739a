"""Whole models from the blocks."""

from transformer_zoo.models.cache import DecoderCache
from transformer_zoo.models.decoder_only import DecoderOnly
from transformer_zoo.models.encoder_decoder import EncoderDecoder
from transformer_zoo.models.packing import check_draft, draft_of, highest_logits, pack, quantize
from transformer_zoo.models.stacks import Decoder, Encoder

__all__ = [
    "Decoder",
    "DecoderCache",
    "DecoderOnly",
    "Encoder",
    "EncoderDecoder",
    "check_draft",
    "draft_of",
    "highest_logits",
    "pack",
    "quantize",
]
