"""Phi 1, 1.5 and 2: attention beside feed-forward under one norm, partial rotation, and biases everywhere."""

from dataclasses import replace
from typing import Any

from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.families.mistral import SHAPE
from transformer_zoo.zoo.families.stablelm import qk_layernorm
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation


def _size(n_layers: int, d_model: int, **others: Any) -> dict[str, Any]:
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": 32, "d_ff": 4 * d_model, "positions.dim": 32}
    ids = {"vocab_size": 51200, "max_seq_len": 2048, "bos_id": 50256, "eos_id": 50256}
    return {**shape, **ids, "activation": "gelu_tanh", **others}


PHI = replace(
    LLAMA,
    model_type="phi",
    architecture="PhiForCausalLM",
    constants={
        "dropout": 0.0, "attention_dropout": 0.0, "norm_position": "parallel_shared", "positions": "rotary",
        "tie_embeddings": False, "logit_bias": True,
    },
    sizes={
        # Li et al. 2023, "Textbooks Are All You Need II: phi-1.5 technical report"; microsoft/phi-1_5.
        "phi-1.5": _size(24, 2048),
        # Javaheripi & Bubeck 2023; microsoft/phi-2.
        "phi-2": _size(32, 2560, dropout=0.1),
    },
    fields={
        **{name: entry for name, entry in SHAPE.items() if name != "head_dim"},
        "vocab_size": Field("vocab_size", 51200),
        "d_model": Field("hidden_size", 2048),
        "n_layers": Field("num_hidden_layers", 24),
        "d_ff": Field("intermediate_size", 8192),
        "activation": Field("hidden_act", "gelu_new", ACTIVATIONS),
        "norm.eps": Field("layer_norm_eps", 1e-5),
        "dropout": Field("resid_pdrop", 0.0),
    },
    parts=(
        rotation(fraction="partial_rotary_factor", default_fraction=0.5),
        qk_layernorm("weight and bias", "head"),
        text_ids(bos=1, eos=2),
    ),
    required=TEXT_ONLY,
    ignored=("attention_bias", "embd_pdrop", "rotary_dim"),  # transformers reads the second for dropout only
    weights={
        **LLAMA.weights,
        **layers(
            "decoder.layers.{i}",
            "model.layers.{i}",
            {
                "attn.q_norm": "self_attn.q_layernorm",
                "attn.k_norm": "self_attn.k_layernorm",
                "attn.out_proj": "self_attn.dense",
                "ffn.up_proj": "mlp.fc1",
                "ffn.down_proj": "mlp.fc2",
            },
        ),
        "decoder.final_norm": "model.final_layernorm",
        "logit_bias": "lm_head.bias",
    },
)  # fmt: skip
"""Gunasekar et al. 2023, "Textbooks Are All You Need"."""

FAMILIES = (PHI,)
