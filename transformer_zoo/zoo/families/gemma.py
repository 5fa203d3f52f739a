"""Gemma and Gemma 2."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig, RMSNormSpec
from transformer_zoo.config.changes import value_at
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, alternating_window, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

_TANH_FIRST = {"gelu_pytorch_tanh": "gelu_tanh", **ACTIVATIONS}
"""If an activation has several names, the first one is written."""


def _size(n_layers: int, d_model: int, n_heads: int, n_kv_heads: int, head_dim: int, d_ff: int) -> dict[str, Any]:
    """In the reports' tables the width of the feed-forward counts its two gated halves: twice `d_ff`."""
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "n_kv_heads": n_kv_heads}
    ids = {"vocab_size": 256000, "pad_id": 0, "bos_id": 2, "eos_id": 1}
    return {**shape, "head_dim": head_dim, "d_ff": d_ff, "max_seq_len": 8192, "norm.eps": 1e-6, **ids}


GEMMA = replace(
    LLAMA,
    model_type="gemma",
    architecture="GemmaForCausalLM",
    constants={
        **LLAMA.constants,
        "norm": RMSNormSpec(unit_offset=True),
        "activation": "gelu_tanh",
        "scale_embeddings": True,
        "tie_embeddings": True,
    },
    # Gemma Team 2024, "Gemma: Open Models Based on Gemini Research and Technology", Table 1; google/gemma-2b and 7b.
    sizes={"gemma-2b": _size(18, 2048, 8, 1, 256, 16384), "gemma-7b": _size(28, 3072, 16, 16, 256, 24576)},
    fields={
        **{name: entry for name, entry in LLAMA.fields.items() if name != "ffn.bias"},
        "vocab_size": Field("vocab_size", 256000),
        "d_model": Field("hidden_size", 3072),
        "n_heads": Field("num_attention_heads", 16),
        "n_kv_heads": Field("num_key_value_heads", 16),
        "head_dim": Field("head_dim", 256),
        "n_layers": Field("num_hidden_layers", 28),
        "d_ff": Field("intermediate_size", 24576),
        "max_seq_len": Field("max_position_embeddings", 8192),
        # The first files said "gelu" and meant this one.
        "activation": Field("hidden_act", "gelu_pytorch_tanh", {**_TANH_FIRST, "gelu": "gelu_tanh"}),
        "tie_embeddings": Field("tie_word_embeddings", True),
    },
    parts=(rotation(), text_ids(bos=2, eos=1, pad=0)),
    required={**TEXT_ONLY, "use_bidirectional_attention": (None, False)},
    ignored=("hidden_activation",),
)
"""Gemma Team 2024, "Gemma: Open Models Based on Gemini Research and Technology"."""


def _read_scale(theirs: Fields, ours: Fields) -> dict[str, Any]:
    return {"attention.scale": theirs.get("query_pre_attn_scalar", 256) ** -0.5}


def _write_scale(config: DecoderConfig) -> dict[str, Any]:
    head_dim = config.decoder.layers[0].attention.width(config.d_model)
    return {"query_pre_attn_scalar": round((value_at(config, "attention.scale") or head_dim**-0.5) ** -2)}


_WINDOWS = {"layer": [{"attention": {"window": 4096}}, {}]}

GEMMA2 = replace(
    GEMMA,
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    constants={**GEMMA.constants, "norm_position": "both", "attention.softcap": 50.0, "logit_softcap": 30.0},
    # Gemma Team 2024, "Gemma 2: Improving Open Language Models at a Practical Size", Table 1.
    sizes={
        "gemma-2-2b": {**_size(26, 2304, 8, 4, 256, 9216), **_WINDOWS},
        "gemma-2-9b": {**_size(42, 3584, 16, 8, 256, 14336), **_WINDOWS},
        # Its queries are scaled by d_model / n_heads, which is not head_dim.
        "gemma-2-27b": {**_size(46, 4608, 32, 16, 128, 36864), **_WINDOWS, "attention.scale": 144**-0.5},
    },
    fields={
        **GEMMA.fields,
        "d_model": Field("hidden_size", 2304),
        "n_heads": Field("num_attention_heads", 8),
        "n_kv_heads": Field("num_key_value_heads", 4),
        "n_layers": Field("num_hidden_layers", 26),
        "d_ff": Field("intermediate_size", 9216),
        "activation": Field("hidden_activation", "gelu_pytorch_tanh", _TANH_FIRST),
        "attention.softcap": Field("attn_logit_softcapping", 50.0),
        "logit_softcap": Field("final_logit_softcapping", 30.0),
    },
    parts=(
        rotation(),
        Part({"query_pre_attn_scalar": float}, _read_scale, _write_scale),
        alternating_window(2),
        text_ids(bos=2, eos=1, pad=0),
    ),
    ignored=("hidden_act", "sliding_window_size"),
    weights={
        **GEMMA.weights,
        **layers(
            "decoder.layers.{i}",
            "model.layers.{i}",
            {
                "attn_out_norm": "post_attention_layernorm",
                "ffn_norm": "pre_feedforward_layernorm",
                "ffn_out_norm": "post_feedforward_layernorm",
            },
        ),
    },
)
"""Gemma Team 2024, "Gemma 2: Improving Open Language Models at a Practical Size"."""

FAMILIES = (GEMMA, GEMMA2)
