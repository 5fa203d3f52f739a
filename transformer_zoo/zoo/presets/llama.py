"""Presets of Llama 2 and 3."""

from dataclasses import replace

from transformer_zoo.config import DecoderConfig

LLAMA2 = DecoderConfig(
    vocab_size=32000,
    d_model=4096,
    n_heads=32,
    d_ff=11008,
    n_layers=32,
    max_seq_len=4096,
    dropout=0.0,
    attention_dropout=0.0,
    activation="silu",
    gated=True,
    norm="rmsnorm",
    bias=False,
    positions="rotary",
    tie_embeddings=False,
    bos_id=1,
    eos_id=2,
)
"""Touvron et al. 2023, "Llama 2: Open Foundation and Fine-Tuned Chat Models", Table 1; meta-llama/Llama-2-7b-hf."""

LLAMA3 = replace(
    LLAMA2,
    vocab_size=128256,
    n_kv_heads=8,
    d_ff=14336,
    max_seq_len=8192,
    rotary_base=500000.0,
    bos_id=128000,
    eos_id=128001,
)
"""Grattafiori et al. 2024, "The Llama 3 Herd of Models", Table 3; meta-llama/Meta-Llama-3-8B."""

LLAMA3_1 = replace(LLAMA3, max_seq_len=131072, rotary_scaling="llama3", rotary_factor=8.0)
"""meta-llama/Llama-3.1-8B; the other numbers of the scaling are the defaults of a configuration."""

LLAMA3_2 = replace(LLAMA3_1, d_ff=8192, rotary_factor=32.0, tie_embeddings=True)
"""What meta-llama/Llama-3.2-1B and 3B share."""


def _70b(config: DecoderConfig) -> DecoderConfig:
    return replace(config, d_model=8192, n_heads=64, n_kv_heads=8, d_ff=28672, n_layers=80)


PRESETS: dict[str, DecoderConfig] = {
    # Zhang et al. 2024, "TinyLlama: An Open-Source Small Language Model", Table 2.
    "tinyllama-1.1b": replace(LLAMA2, d_model=2048, n_kv_heads=4, d_ff=5632, n_layers=22, max_seq_len=2048),
    "llama-2-7b": LLAMA2,
    "llama-2-13b": replace(LLAMA2, d_model=5120, n_heads=40, d_ff=13824, n_layers=40),
    "llama-2-70b": _70b(LLAMA2),
    "llama-3-8b": LLAMA3,
    "llama-3-70b": _70b(LLAMA3),
    "llama-3.1-8b": LLAMA3_1,
    "llama-3.1-70b": _70b(LLAMA3_1),
    "llama-3.2-1b": replace(LLAMA3_2, d_model=2048, n_layers=16),
    "llama-3.2-3b": replace(LLAMA3_2, d_model=3072, n_heads=24, n_layers=28),
}
