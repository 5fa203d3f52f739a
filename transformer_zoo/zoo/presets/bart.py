"""Presets of BART and of its multilingual kin."""

from dataclasses import replace

from transformer_zoo.config import EncoderDecoderConfig

BART = EncoderDecoderConfig(
    vocab_size=50265,
    d_model=768,
    n_heads=12,
    d_ff=3072,
    activation="gelu",
    attention_dropout=0.1,
    activation_dropout=0.1,
    embedding_norm=True,
    positions="learned",
    position_offset=2,
    scale_embeddings=False,
    logit_bias=True,
    pad_id=1,
    bos_id=2,  # a target starts with the end of the one before it
    eos_id=2,
    forced_last_id=2,
    never_ids=(),
)
"""Lewis et al. 2019, "BART: Denoising Sequence-to-Sequence Pre-training", section 2.1; facebook/bart-base."""

BART_LARGE = replace(BART, d_model=1024, n_heads=16, d_ff=4096, n_encoder_layers=12, n_decoder_layers=12)
"""facebook/bart-large."""

MBART = replace(
    BART_LARGE,
    vocab_size=250027,
    attention_dropout=0.0,
    activation_dropout=0.0,
    norm_position="pre",
    scale_embeddings=True,
    bos_id=250004,
    source_end_id=250004,
)
"""Liu et al. 2020, "Multilingual Denoising Pre-training for Neural Machine Translation"; facebook/mbart-large-cc25.

A source ends with the tag of its language, a target starts with its own: here English for both."""

MBART_50 = replace(MBART, vocab_size=250054, bos_id=2, source_end_id=None)
"""Tang et al. 2020, "Multilingual Translation with Extensible Multilingual Pretraining"; facebook/mbart-large-50.

Here tags come first on both sides; in a target, after `bos_id`."""

PRESETS: dict[str, EncoderDecoderConfig] = {
    "bart-base": BART,
    "bart-large": BART_LARGE,
    "mbart-large-cc25": MBART,
    "mbart-large-50": MBART_50,
    "mbart-large-50-many-to-many": replace(MBART_50, activation="relu"),
}
