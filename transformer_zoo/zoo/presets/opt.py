"""Presets of OPT."""

from dataclasses import replace

from transformer_zoo.config import DecoderConfig


def _opt(n_layers: int, d_model: int, n_heads: int) -> DecoderConfig:
    """Zhang et al. 2022, "OPT: Open Pre-trained Transformer Language Models", Table 1."""
    return DecoderConfig(
        vocab_size=50272,
        d_model=d_model,
        n_heads=n_heads,
        d_ff=4 * d_model,
        n_layers=n_layers,
        max_seq_len=2048,
        attention_dropout=0.0,
        activation="relu",
        position_offset=2,
        pad_id=1,
        bos_id=2,
        eos_id=2,
    )


PRESETS: dict[str, DecoderConfig] = {
    "opt-125m": _opt(12, 768, 12),
    # Unlike the others: norms come after each sublayer, with none at the end, and the embedding is narrower.
    "opt-350m": replace(_opt(24, 1024, 16), norm_position="post", d_embedding=512),
    "opt-1.3b": _opt(24, 2048, 32),
    "opt-2.7b": _opt(32, 2560, 32),
    "opt-6.7b": _opt(32, 4096, 32),
    "opt-13b": _opt(40, 5120, 40),
    "opt-30b": _opt(48, 7168, 56),
    "opt-66b": _opt(64, 9216, 72),
}
