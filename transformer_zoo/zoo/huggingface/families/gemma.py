"""Gemma and Gemma 2."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, layers
from transformer_zoo.zoo.huggingface.parts import ALTERNATING_WINDOW, TEXT_ONLY, rotation, text_ids

_TANH_FIRST = {"gelu_pytorch_tanh": "gelu_tanh", **ACTIVATIONS}
"""Of the names for one activation, the first is written."""

GEMMA = replace(
    LLAMA,
    model_type="gemma",
    architecture="GemmaForCausalLM",
    fields={
        **{name: entry for name, entry in LLAMA.fields.items() if name != "ffn_bias"},
        "vocab_size": Field("vocab_size", 256000),
        "d_model": Field("hidden_size", 3072),
        "n_heads": Field("num_attention_heads", 16),
        "n_kv_heads": Field("num_key_value_heads", 16),
        "head_dim": Field("head_dim", 256),
        "n_layers": Field("num_hidden_layers", 28),
        "d_ff": Field("intermediate_size", 24576),
        "max_seq_len": Field("max_position_embeddings", 8192),
        # The first files said "gelu" and meant this.
        "activation": Field("hidden_act", "gelu_pytorch_tanh", {**_TANH_FIRST, "gelu": "gelu_tanh"}),
        "tie_embeddings": Field("tie_word_embeddings", True),
    },
    parts=(rotation(), text_ids(bos=2, eos=1, pad=0)),
    constants={**LLAMA.constants, "ffn_bias": False, "norm_unit_offset": True, "scale_embeddings": True},
    required={**TEXT_ONLY, "use_bidirectional_attention": (None, False)},
    ignored=("hidden_activation",),
)
"""Gemma Team 2024, "Gemma: Open Models Based on Gemini Research and Technology"."""


def _read_scale(theirs: Fields, ours: Fields) -> dict[str, Any]:
    return {"attention_scale": theirs.get("query_pre_attn_scalar", 256) ** -0.5}


def _write_scale(config: DecoderConfig) -> dict[str, Any]:
    head_dim = config.d_head
    return {"query_pre_attn_scalar": round((config.attention_scale or head_dim**-0.5) ** -2)}


GEMMA2 = replace(
    GEMMA,
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    fields={
        **GEMMA.fields,
        "d_model": Field("hidden_size", 2304),
        "n_heads": Field("num_attention_heads", 8),
        "n_kv_heads": Field("num_key_value_heads", 4),
        "n_layers": Field("num_hidden_layers", 26),
        "d_ff": Field("intermediate_size", 9216),
        "activation": Field("hidden_activation", "gelu_pytorch_tanh", _TANH_FIRST),
        "attention_softcap": Field("attn_logit_softcapping", 50.0),
        "logit_softcap": Field("final_logit_softcapping", 30.0),
    },
    parts=(
        rotation(),
        Part({"query_pre_attn_scalar": float}, _read_scale, _write_scale),
        ALTERNATING_WINDOW,
        text_ids(bos=2, eos=1, pad=0),
    ),
    constants={**GEMMA.constants, "norm_position": "both"},
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
