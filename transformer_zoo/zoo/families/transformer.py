"""The original Transformer."""

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.zoo.huggingface.family import Family

TRANSFORMER = Family(
    config=EncoderDecoderConfig,
    sizes={
        "transformer-tiny": {"vocab_size": 10000, "d_model": 128, "d_ff": 256, "n_heads": 4, "n_layers": 4},
        "transformer-small": {"vocab_size": 8000, "d_model": 256, "d_ff": 1024, "n_heads": 4, "n_layers": 3},
        "transformer-iwslt": {"vocab_size": 10000, "d_ff": 1024, "n_heads": 4},
        # Table 3 of "Attention Is All You Need", rows "base" and "big", with the vocabulary of its English-German
        # experiments.
        "transformer-base": {"vocab_size": 37000},
        "transformer-big": {"vocab_size": 37000, "d_model": 1024, "d_ff": 4096, "n_heads": 16, "dropout": 0.3},
    },
)
"""Vaswani et al. 2017."""

FAMILIES = (TRANSFORMER,)
