"""Presets of the original Transformer."""

from dataclasses import replace

from transformer_zoo.config import EncoderDecoderConfig

BASE = EncoderDecoderConfig(vocab_size=37000)
"""Table 3 of "Attention Is All You Need", row "base", with the vocabulary of its English-German experiments."""

PRESETS: dict[str, EncoderDecoderConfig] = {
    "transformer-tiny": replace(
        BASE, vocab_size=10000, d_model=128, d_ff=256, n_heads=4, n_encoder_layers=4, n_decoder_layers=4
    ),
    "transformer-small": replace(
        BASE, vocab_size=8000, d_model=256, d_ff=1024, n_heads=4, n_encoder_layers=3, n_decoder_layers=3
    ),
    "transformer-iwslt": replace(BASE, vocab_size=10000, d_ff=1024, n_heads=4),
    "transformer-base": BASE,
    "transformer-big": replace(BASE, d_model=1024, d_ff=4096, n_heads=16, dropout=0.3),
}
