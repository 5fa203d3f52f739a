"""Floating-point operations of a decoder-only model."""

from torch import nn

from transformer_zoo.errors import UserError
from transformer_zoo.models.decoder_only import DecoderOnly


def forward_flops(model: DecoderOnly, seq_len: int) -> int:
    """Operations to process one token of a sequence of `seq_len`, as in appendix B of PaLM (Chowdhery et al. 2022).

    Two for each weight of a matrix product, and 4 n_layers n_heads head_dim seq_len for the scores and their product
    with the values, without subtracting what causality or a sliding window masks. Training takes three times as many.

    Raises:
        UserError: the model is no DecoderOnly.
    """
    if not isinstance(model, DecoderOnly):
        raise UserError("forward_flops counts for a decoder-only model: an encoder-decoder's two sides differ")
    config = model.config
    parts = [*model.decoder.modules(), model.embedding_in, model.embedding_out]
    linear = sum(part.weight.numel() for part in parts if isinstance(part, nn.Linear))
    head_dim = config.d_head
    attention = 4 * config.n_layers * config.n_heads * head_dim * seq_len
    return 2 * (linear + model.head_weight.numel()) + attention
