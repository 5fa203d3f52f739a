"""Presets of GPT-NeoX and Pythia."""

from dataclasses import replace

from transformer_zoo.config import DecoderConfig


def _neox(n_layers: int, d_model: int, n_heads: int, vocab_size: int = 50304) -> DecoderConfig:
    """Black et al. 2022, "GPT-NeoX-20B: An Open-Source Autoregressive Language Model", section 2."""
    return DecoderConfig(
        vocab_size=vocab_size,
        d_model=d_model,
        n_heads=n_heads,
        d_ff=4 * d_model,
        n_layers=n_layers,
        max_seq_len=2048,
        dropout=0.0,
        attention_dropout=0.0,
        activation="gelu",
        norm_position="parallel",
        positions="rotary",
        rotary_dim=d_model // n_heads // 4,
        tie_embeddings=False,
        eos_id=0,
    )


PRESETS: dict[str, DecoderConfig] = {
    # Biderman et al. 2023, "Pythia: A Suite for Analyzing Large Language Models", Table 1; the smallest from its model
    # card. Vocabularies are padded, not all to the same multiple.
    "pythia-14m": replace(_neox(6, 128, 4), max_seq_len=512),
    "pythia-70m": _neox(6, 512, 8),
    "pythia-160m": _neox(12, 768, 12),
    "pythia-410m": _neox(24, 1024, 16),
    "pythia-1b": _neox(16, 2048, 8),
    "pythia-1.4b": _neox(24, 2048, 16),
    "pythia-2.8b": _neox(32, 2560, 32),
    "pythia-6.9b": _neox(32, 4096, 32, vocab_size=50432),
    "pythia-12b": _neox(36, 5120, 40, vocab_size=50688),
    "gpt-neox-20b": replace(_neox(44, 6144, 64, vocab_size=50432), activation="gelu_tanh"),
}
