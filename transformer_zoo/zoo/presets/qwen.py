"""Presets of Qwen 2, 2.5 and 3."""

from dataclasses import replace

from transformer_zoo.config import DecoderConfig
from transformer_zoo.zoo.presets.llama import LLAMA2

_QWEN = replace(
    LLAMA2, vocab_size=151936, max_seq_len=131072, norm_eps=1e-6, rotary_base=1e6, bos_id=None, eos_id=151643
)


def _qwen2(n_layers: int, d_model: int, n_heads: int, n_kv_heads: int, d_ff: int, *, small: bool) -> DecoderConfig:
    """Qwen Team 2024, "Qwen2 Technical Report", Table 1, and "Qwen2.5 Technical Report", Table 1; base models.

    small: the head is the embedding, and the vocabulary is padded less."""
    return replace(
        _QWEN,
        vocab_size=151936 if small else 152064,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_ff=d_ff,
        n_layers=n_layers,
        qkv_bias=True,
        tie_embeddings=small,
    )


def _qwen3(n_layers: int, d_model: int, n_heads: int, d_ff: int, *, tied: bool = False) -> DecoderConfig:
    """Qwen Team 2025, "Qwen3 Technical Report", Table 1; the models that follow instructions."""
    return replace(
        _QWEN,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=8,
        head_dim=128,
        d_ff=d_ff,
        n_layers=n_layers,
        max_seq_len=40960,
        qk_norm=True,
        tie_embeddings=tied,
        eos_id=151645,
    )


_0_5B = _qwen2(24, 896, 14, 2, 4864, small=True)
_1_5B = _qwen2(28, 1536, 12, 2, 8960, small=True)
_7B = _qwen2(28, 3584, 28, 4, 18944, small=False)
# The larger base models say 1e-5; those that follow instructions 1e-6.
_72B = replace(_qwen2(80, 8192, 64, 8, 29568, small=False), norm_eps=1e-5)

PRESETS: dict[str, DecoderConfig] = {
    "qwen2-0.5b": _0_5B,
    "qwen2-1.5b": _1_5B,
    "qwen2-7b": _7B,
    "qwen2-72b": _72B,
    "qwen2.5-0.5b": replace(_0_5B, max_seq_len=32768),
    "qwen2.5-1.5b": _1_5B,
    "qwen2.5-3b": replace(_qwen2(36, 2048, 16, 2, 11008, small=True), max_seq_len=32768),
    "qwen2.5-7b": _7B,
    "qwen2.5-14b": replace(_qwen2(48, 5120, 40, 8, 13824, small=False), norm_eps=1e-5),
    "qwen2.5-32b": replace(_qwen2(64, 5120, 40, 8, 27648, small=False), norm_eps=1e-5),
    "qwen2.5-72b": _72B,
    "qwen3-0.6b": _qwen3(28, 1024, 16, 3072, tied=True),
    "qwen3-1.7b": _qwen3(28, 2048, 16, 6144, tied=True),
    "qwen3-4b": _qwen3(36, 2560, 32, 9728, tied=True),
    "qwen3-8b": _qwen3(36, 4096, 32, 12288),
    "qwen3-14b": _qwen3(40, 5120, 40, 17408),
    "qwen3-32b": _qwen3(64, 5120, 64, 25600),
}
