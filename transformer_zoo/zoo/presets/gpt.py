"""Presets of the GPT family."""

from dataclasses import replace

from transformer_zoo.config import DecoderConfig

GPT2 = DecoderConfig(vocab_size=50257, eos_id=50256)
"""Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", Table 2."""

GPT3 = replace(GPT2, max_seq_len=2048)
"""Brown et al. 2020, "Language Models are Few-Shot Learners", Table 2.1, with dense attention in every layer.

Its alternating sparse layers have the same weights."""


def _gpt3(n_layers: int, d_model: int, n_heads: int, head_dim: int) -> DecoderConfig:
    return replace(GPT3, n_layers=n_layers, d_model=d_model, n_heads=n_heads, head_dim=head_dim, d_ff=4 * d_model)


_CHARACTERS = replace(GPT2, vocab_size=65, eos_id=None, activation="gelu", bias=False, norm_bias=False)
"""As in nanoGPT's recipes for Tiny Shakespeare, which has 65 characters."""

PRESETS: dict[str, DecoderConfig] = {
    "gpt-char": replace(
        _CHARACTERS,
        d_model=384,
        n_heads=6,
        d_ff=1536,
        n_layers=6,
        max_seq_len=256,
        dropout=0.2,
        attention_dropout=0.2,
    ),
    "gpt-nano": replace(
        _CHARACTERS,
        d_model=128,
        n_heads=4,
        d_ff=512,
        n_layers=4,
        max_seq_len=64,
        dropout=0.0,
        attention_dropout=0.0,
    ),
    # Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 4.1.
    "gpt1": DecoderConfig(vocab_size=40478, max_seq_len=512, norm_position="post"),
    "gpt2": GPT2,
    "gpt2-medium": replace(GPT2, d_model=1024, n_heads=16, d_ff=4096, n_layers=24),
    "gpt2-large": replace(GPT2, d_model=1280, n_heads=20, d_ff=5120, n_layers=36),
    "gpt2-xl": replace(GPT2, d_model=1600, n_heads=25, d_ff=6400, n_layers=48),
    "gpt2-untied": replace(GPT2, qkv_bias=False, tie_embeddings=False),
    "gpt3-small": _gpt3(12, 768, 12, 64),
    "gpt3-medium": _gpt3(24, 1024, 16, 64),
    "gpt3-large": _gpt3(24, 1536, 16, 96),
    "gpt3-xl": _gpt3(24, 2048, 24, 128),
    "gpt3-2.7b": _gpt3(32, 2560, 32, 80),
    "gpt3-6.7b": _gpt3(32, 4096, 32, 128),
    "gpt3-13b": _gpt3(40, 5140, 40, 128),
    "gpt3-175b": _gpt3(96, 12288, 96, 128),
    # docs/results.md has the ablation of each choice.
    "gpt-modern": replace(
        GPT2,
        dropout=0.0,
        attention_dropout=0.0,
        activation="relu_squared",
        norm="rmsnorm",
        bias=False,
        positions="rotary",
        rotary_layout="interleaved",
        qk_norm=True,
    ),
}
