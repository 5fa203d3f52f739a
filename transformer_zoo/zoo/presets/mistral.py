"""Presets of Mistral."""

from dataclasses import replace

from transformer_zoo.config import DecoderConfig
from transformer_zoo.zoo.presets.llama import LLAMA2

MISTRAL = replace(LLAMA2, n_kv_heads=8, d_ff=14336, max_seq_len=32768, sliding_window=4096)
"""Jiang et al. 2023, "Mistral 7B", Table 1; mistralai/Mistral-7B-v0.1."""

PRESETS: dict[str, DecoderConfig] = {
    "mistral-7b-v0.1": MISTRAL,
    "mistral-7b-v0.3": replace(MISTRAL, vocab_size=32768, sliding_window=None, rotary_base=1e6),
}
