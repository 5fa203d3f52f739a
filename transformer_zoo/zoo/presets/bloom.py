"""Presets of BLOOM."""

from transformer_zoo.config import DecoderConfig


def _bloom(n_layers: int, d_model: int, n_heads: int) -> DecoderConfig:
    """BigScience 2022, "BLOOM: A 176B-Parameter Open-Access Multilingual Language Model", Table 3."""
    return DecoderConfig(
        vocab_size=250880,
        d_model=d_model,
        n_heads=n_heads,
        d_ff=4 * d_model,
        n_layers=n_layers,
        max_seq_len=2048,
        dropout=0.0,
        attention_dropout=0.0,
        embedding_norm=True,
        positions="alibi",
        eos_id=2,
    )


PRESETS: dict[str, DecoderConfig] = {
    "bloom-560m": _bloom(24, 1024, 16),
    "bloom-1b1": _bloom(24, 1536, 16),
    "bloom-1b7": _bloom(24, 2048, 16),
    "bloom-3b": _bloom(30, 2560, 32),
    "bloom-7b1": _bloom(30, 4096, 32),
    "bloom-176b": _bloom(70, 14336, 112),
}
