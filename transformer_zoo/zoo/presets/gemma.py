"""Presets of Gemma and Gemma 2."""

from dataclasses import replace

from transformer_zoo.config import DecoderConfig
from transformer_zoo.zoo.presets.llama import LLAMA2

GEMMA = replace(
    LLAMA2,
    vocab_size=256000,
    d_model=2048,
    n_heads=8,
    n_kv_heads=1,
    head_dim=256,
    d_ff=16384,
    n_layers=18,
    max_seq_len=8192,
    activation="gelu_tanh",
    norm_unit_offset=True,
    norm_eps=1e-6,
    scale_embeddings=True,
    tie_embeddings=True,
    pad_id=0,
    bos_id=2,
    eos_id=1,
)
"""Gemma Team 2024, "Gemma: Open Models Based on Gemini Research and Technology", Table 1; google/gemma-2b.

The feed-forward's width in the tables of both reports counts its two gated halves: twice `d_ff`."""


def _gemma2(n_layers: int, d_model: int, n_heads: int, head_dim: int, d_ff: int) -> DecoderConfig:
    """Gemma Team 2024, "Gemma 2: Improving Open Language Models at a Practical Size", Table 1."""
    return replace(
        GEMMA,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads // 2,
        head_dim=head_dim,
        d_ff=d_ff,
        n_layers=n_layers,
        norm_position="both",
        attention_softcap=50.0,
        sliding_window=4096,
        windowed_layers=tuple(range(0, n_layers, 2)),
        logit_softcap=30.0,
    )


PRESETS: dict[str, DecoderConfig] = {
    "gemma-2b": GEMMA,
    "gemma-7b": replace(GEMMA, d_model=3072, n_heads=16, n_kv_heads=16, d_ff=24576, n_layers=28),
    "gemma-2-2b": _gemma2(26, 2304, 8, 256, 9216),
    "gemma-2-9b": _gemma2(42, 3584, 16, 256, 14336),
    # Its queries are scaled by d_model / n_heads, which is not head_dim.
    "gemma-2-27b": replace(_gemma2(46, 4608, 32, 128, 36864), attention_scale=144**-0.5),
}
