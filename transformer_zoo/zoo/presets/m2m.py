"""Presets of M2M-100 and NLLB."""

from dataclasses import replace

from transformer_zoo.config import EncoderDecoderConfig

M2M100 = EncoderDecoderConfig(
    vocab_size=128112,
    d_model=1024,
    n_heads=16,
    d_ff=4096,
    n_encoder_layers=12,
    n_decoder_layers=12,
    attention_dropout=0.1,
    norm_position="pre",
    position_offset=2,
    sinusoid_layout="halves_inclusive",
    count_padding=False,
    pad_id=1,
    bos_id=2,  # followed by the tag of the language
    eos_id=2,
    never_ids=(),
)
"""Fan et al. 2020, "Beyond English-Centric Multilingual Machine Translation"; facebook/m2m100_418M."""

NLLB = replace(M2M100, vocab_size=256206)
"""NLLB Team 2022, "No Language Left Behind: Scaling Human-Centered Machine Translation"; nllb-200-distilled-600M."""


def _twice_as_deep(config: EncoderDecoderConfig) -> EncoderDecoderConfig:
    return replace(config, d_ff=8192, n_encoder_layers=24, n_decoder_layers=24)


PRESETS: dict[str, EncoderDecoderConfig] = {
    "m2m100-418m": M2M100,
    "m2m100-1.2b": _twice_as_deep(M2M100),
    "nllb-600m": NLLB,
    "nllb-1.3b": _twice_as_deep(NLLB),
    "nllb-3.3b": replace(_twice_as_deep(NLLB), d_model=2048),
}
