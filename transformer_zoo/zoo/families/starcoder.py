"""StarCoder2: Mistral's attention with LayerNorm, biases everywhere and GPT-2's feed-forward."""

from dataclasses import replace
from typing import Any

from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.families.mistral import MISTRAL
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field, layers
from transformer_zoo.zoo.huggingface.parts import text_ids

_FFN = {"ffn.up_proj": "mlp.c_fc", "ffn.down_proj": "mlp.c_proj"}


def _size(n_layers: int, d_model: int, n_heads: int, n_kv_heads: int, base: float) -> dict[str, Any]:
    """Lozhkov et al. 2024, "StarCoder 2 and The Stack v2: The Next Generation", Table 6."""
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "n_kv_heads": n_kv_heads}
    others = {"vocab_size": 49152, "max_seq_len": 16384, "sliding_window": 4096, "bos_id": 0, "eos_id": 0}
    dropout = {"dropout": 0.1, "attention_dropout": 0.1}
    return {**shape, **others, **dropout, "d_ff": 4 * d_model, "positions.base": base}


STARCODER2 = replace(
    MISTRAL,
    model_type="starcoder2",
    architecture="Starcoder2ForCausalLM",
    constants={
        **LLAMA.constants,
        "norm": "layernorm",
        "gated": False,
        "activation": "gelu_tanh",
        "bias": True,
        "tie_embeddings": True,
    },
    sizes={
        "starcoder2-3b": _size(30, 3072, 24, 2, 999999.4420358813),
        "starcoder2-7b": _size(32, 4608, 36, 4, 1e6),
        "starcoder2-15b": _size(40, 6144, 48, 4, 1e5),
    },
    fields={
        **MISTRAL.fields,
        "vocab_size": Field("vocab_size", 49152),
        "d_model": Field("hidden_size", 3072),
        "n_heads": Field("num_attention_heads", 24),
        "n_kv_heads": Field("num_key_value_heads", 2),
        "n_layers": Field("num_hidden_layers", 30),
        "d_ff": Field("intermediate_size", 12288),
        "max_seq_len": Field("max_position_embeddings", 4096),
        "activation": Field("hidden_act", "gelu_pytorch_tanh", ACTIVATIONS),
        "norm.eps": Field("norm_epsilon", 1e-5),
        "sliding_window": Field("sliding_window", None),
        "bias": Field("use_bias", True),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("residual_dropout", 0.0),
    },
    parts=(MISTRAL.parts[0], text_ids(bos=50256, eos=50256)),
    ignored=("embedding_dropout", "mlp_type", "norm_type"),
    weights={**MISTRAL.weights, **layers("decoder.layers.{i}", "model.layers.{i}", _FFN)},
)
"""Lozhkov et al. 2024."""

FAMILIES = (STARCODER2,)
