"""Presets of OPUS-MT, trained with Marian (Junczys-Dowmunt et al. 2018)."""

from dataclasses import replace

from transformer_zoo.config import EncoderDecoderConfig

OPUS_MT = EncoderDecoderConfig(
    vocab_size=58101,
    max_seq_len=512,
    activation="silu",
    sinusoid_layout="halves",
    logit_bias=True,
    pad_id=58100,
    bos_id=58100,  # a target starts with pad
    eos_id=0,
    forced_last_id=0,
)
"""Tiedemann and Thottingal 2020, "OPUS-MT: Building open translation services for the World".

The shape of all its bilingual models; vocabulary and ids are English-German's (Helsinki-NLP/opus-mt-en-de), and every
pair has its own."""

PRESETS: dict[str, EncoderDecoderConfig] = {
    "opus-mt": OPUS_MT,
    # Tiedemann 2020, "The Tatoeba Translation Challenge": the "transformer-big" models, opus-mt-tc-big on the hub.
    # Vocabulary and ids are those of opus-mt-tc-big-fr-en.
    "opus-mt-big": replace(
        OPUS_MT,
        vocab_size=53017,
        d_model=1024,
        n_heads=16,
        d_ff=4096,
        max_seq_len=1024,
        activation="relu",
        pad_id=53016,
        bos_id=53016,
        eos_id=43311,
    ),
}
