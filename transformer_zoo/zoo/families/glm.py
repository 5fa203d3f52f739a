"""GLM-4: Llama with gate and up in one matrix and a partial rotation; GLM-4-0414 has norms around its sublayers."""

from dataclasses import replace
from typing import Any

from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.families.mistral import SHAPE
from transformer_zoo.zoo.families.phi3 import GATE_AND_UP
from transformer_zoo.zoo.huggingface.family import Field, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

_ENDS = [151329, 151336, 151338]


def _size(n_layers: int, d_model: int, n_heads: int, d_ff: int, **others: Any) -> dict[str, Any]:
    """GLM Team 2024, "ChatGLM: A Family of Large Language Models from GLM-130B to GLM-4 All Tools"."""
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "n_kv_heads": 2, "d_ff": d_ff}
    positions = {"positions.dim": 64, "positions.layout": "interleaved", "head_dim": 128}
    ids = {"vocab_size": 151552, "pad_id": _ENDS[0], "eos_id": _ENDS[0], "stop_ids": tuple(_ENDS[1:])}
    return {**shape, **positions, **ids, **others}


GLM = replace(
    LLAMA,
    model_type="glm",
    architecture="GlmForCausalLM",
    sizes={
        # zai-org/glm-4-9b-chat-hf.
        "glm-4-9b": _size(
            40, 4096, 32, 13696, max_seq_len=131072, **{"norm.eps": 1.5625e-07, "attention.qkv_bias": True}
        ),
    },
    fields={
        **SHAPE,
        "vocab_size": Field("vocab_size", 151552),
        "n_kv_heads": Field("num_key_value_heads", 2),
        "head_dim": Field("head_dim", 128),
        "n_layers": Field("num_hidden_layers", 40),
        "d_ff": Field("intermediate_size", 13696),
        "max_seq_len": Field("max_position_embeddings", 131072),
        "norm.eps": Field("rms_norm_eps", 1.5625e-07),
        "attention.qkv_bias": Field("attention_bias", True),
    },
    parts=(
        rotation(fraction="partial_rotary_factor", default_fraction=0.5, layout="interleaved"),
        text_ids(bos=None, eos=_ENDS, pad=151329),
    ),
    required=TEXT_ONLY,
    ignored=(),
    weights={**LLAMA.weights, **GATE_AND_UP},
)
"""GLM Team 2024."""

GLM4 = replace(
    GLM,
    model_type="glm4",
    architecture="Glm4ForCausalLM",
    constants={**GLM.constants, "norm_position": "both"},
    sizes={
        # zai-org/GLM-4-9B-0414.
        "glm-4-9b-0414": _size(40, 4096, 32, 13696, max_seq_len=32768, **{"attention.qkv_bias": True}),
    },
    weights={
        **GLM.weights,
        **layers(
            "decoder.layers.{i}",
            "model.layers.{i}",
            {"attn_out_norm": "post_self_attn_layernorm", "ffn_out_norm": "post_mlp_layernorm"},
        ),
    },
)
"""Zhipu AI 2025, GLM-4-0414."""

FAMILIES = (GLM, GLM4)
