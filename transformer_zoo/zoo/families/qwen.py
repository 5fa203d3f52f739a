"""Qwen 2, 2.5 and 3."""

from dataclasses import replace
from typing import Any

from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.families.mistral import MISTRAL, SHAPE
from transformer_zoo.zoo.huggingface.family import Field
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, WINDOW_FROM_A_LAYER, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

_QWEN = {"vocab_size": 151936, "max_seq_len": 131072, "norm.eps": 1e-6, "positions.base": 1e6, "eos_id": 151643}


def _2(n_layers: int, d_model: int, n_heads: int, n_kv_heads: int, d_ff: int, *, small: bool) -> dict[str, Any]:
    """Qwen Team 2024, "Qwen2 Technical Report", Table 1, and "Qwen2.5 Technical Report", Table 1; base models.

    small: the head is the embedding, and the vocabulary is padded less."""
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "n_kv_heads": n_kv_heads, "d_ff": d_ff}
    return {**_QWEN, **shape, "vocab_size": 151936 if small else 152064, "tie_embeddings": small}


def _3(n_layers: int, d_model: int, n_heads: int, d_ff: int, *, tied: bool = False) -> dict[str, Any]:
    """Qwen Team 2025, "Qwen3 Technical Report", Table 1; the models that follow instructions."""
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "n_kv_heads": 8, "head_dim": 128}
    others = {"d_ff": d_ff, "max_seq_len": 40960, "attention.qk_norm.eps": 1e-6}
    return {**_QWEN, **shape, **others, "tie_embeddings": tied, "eos_id": 151645}


_0_5B = _2(24, 896, 14, 2, 4864, small=True)
_1_5B = _2(28, 1536, 12, 2, 8960, small=True)
_7B = _2(28, 3584, 28, 4, 18944, small=False)
# The larger base models say 1e-5; those that follow instructions 1e-6.
_72B = {**_2(80, 8192, 64, 8, 29568, small=False), "norm.eps": 1e-5}

QWEN2 = replace(
    MISTRAL,
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    constants={**LLAMA.constants, "attention.qkv_bias": True},
    sizes={
        "qwen2-0.5b": _0_5B,
        "qwen2-1.5b": _1_5B,
        "qwen2-7b": _7B,
        "qwen2-72b": _72B,
        "qwen2.5-0.5b": {**_0_5B, "max_seq_len": 32768},
        "qwen2.5-1.5b": _1_5B,
        "qwen2.5-3b": {**_2(36, 2048, 16, 2, 11008, small=True), "max_seq_len": 32768},
        "qwen2.5-7b": _7B,
        "qwen2.5-14b": {**_2(48, 5120, 40, 8, 13824, small=False), "norm.eps": 1e-5},
        "qwen2.5-32b": {**_2(64, 5120, 40, 8, 27648, small=False), "norm.eps": 1e-5},
        "qwen2.5-72b": _72B,
    },
    fields={
        **SHAPE,
        "vocab_size": Field("vocab_size", 151936),
        "n_kv_heads": Field("num_key_value_heads", 32),
        "d_ff": Field("intermediate_size", 22016),
        "max_seq_len": Field("max_position_embeddings", 32768),
    },
    parts=(rotation(), WINDOW_FROM_A_LAYER, text_ids(bos=None, eos=None)),
    required={**TEXT_ONLY, "use_mrope": (False,)},
)
"""Yang et al. 2024, "Qwen2 Technical Report"."""

QWEN3 = replace(
    QWEN2,
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    constants={**LLAMA.constants, "attention.qk_norm": "rmsnorm"},
    sizes={
        "qwen3-0.6b": _3(28, 1024, 16, 3072, tied=True),
        "qwen3-1.7b": _3(28, 2048, 16, 6144, tied=True),
        "qwen3-4b": _3(36, 2560, 32, 9728, tied=True),
        "qwen3-8b": _3(36, 4096, 32, 12288),
        "qwen3-14b": _3(40, 5120, 40, 17408),
        "qwen3-32b": _3(64, 5120, 64, 25600),
    },
    fields={
        **QWEN2.fields,
        "head_dim": Field("head_dim", 128),
        "attention.bias": LLAMA.fields["attention.bias"],
        "attention.qk_norm.eps": Field("rms_norm_eps", 1e-6),
    },
    required=TEXT_ONLY,
)
"""Yang et al. 2025, "Qwen3 Technical Report"."""

FAMILIES = (QWEN2, QWEN3)
