"""Llama 2 and 3."""

from typing import Any

from transformer_zoo.config import DecoderConfig, Llama3Spec
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

# Touvron et al. 2023, "Llama 2: Open Foundation and Fine-Tuned Chat Models", Table 1; meta-llama/Llama-2-7b-hf.
LLAMA2 = {
    "vocab_size": 32000, "d_model": 4096, "n_heads": 32, "d_ff": 11008, "n_layers": 32, "max_seq_len": 4096,
    "bos_id": 1, "eos_id": 2,
}  # fmt: skip
# Grattafiori et al. 2024, "The Llama 3 Herd of Models", Table 3; meta-llama/Meta-Llama-3-8B, Llama-3.1-8B, and what
# Llama-3.2-1B and 3B share.
_3 = {
    **LLAMA2, "vocab_size": 128256, "n_kv_heads": 8, "d_ff": 14336, "max_seq_len": 8192, "positions.base": 500000.0,
    "bos_id": 128000, "eos_id": 128001,
}  # fmt: skip
_3_1 = {**_3, "max_seq_len": 131072, "positions.scaling": Llama3Spec(factor=8.0)}
_3_2 = {**_3_1, "d_ff": 8192, "positions.scaling": Llama3Spec(factor=32.0), "tie_embeddings": True}
_70B: dict[str, Any] = {"d_model": 8192, "n_heads": 64, "n_kv_heads": 8, "d_ff": 28672, "n_layers": 80}

LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    config=DecoderConfig,
    constants={
        "norm": "rmsnorm",
        "gated": True,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation": "silu",
        "bias": False,
        "positions": "rotary",
        "tie_embeddings": False,
    },
    sizes={
        # Zhang et al. 2024, "TinyLlama: An Open-Source Small Language Model", Table 2.
        "tinyllama-1.1b": {
            **LLAMA2, "d_model": 2048, "n_kv_heads": 4, "d_ff": 5632, "n_layers": 22, "max_seq_len": 2048,
        },
        "llama-2-7b": LLAMA2,
        "llama-2-13b": {**LLAMA2, "d_model": 5120, "n_heads": 40, "d_ff": 13824, "n_layers": 40},
        "llama-2-70b": {**LLAMA2, **_70B},
        "llama-3-8b": _3,
        "llama-3-70b": {**_3, **_70B},
        "llama-3.1-8b": _3_1,
        "llama-3.1-70b": {**_3_1, **_70B},
        "llama-3.2-1b": {**_3_2, "d_model": 2048, "n_layers": 16},
        "llama-3.2-3b": {**_3_2, "d_model": 3072, "n_heads": 24, "n_layers": 28},
    },
    fields={
        "vocab_size": Field("vocab_size", 32000),
        "d_model": Field("hidden_size", 4096),
        "n_heads": Field("num_attention_heads", 32),
        "n_kv_heads": Field("num_key_value_heads", None),
        "head_dim": Field("head_dim", None),
        "n_layers": Field("num_hidden_layers", 32),
        "d_ff": Field("intermediate_size", 11008),
        "max_seq_len": Field("max_position_embeddings", 2048),
        "activation": Field("hidden_act", "silu", ACTIVATIONS),
        "norm.eps": Field("rms_norm_eps", 1e-6),
        "attention.bias": Field("attention_bias", False),
        "ffn.bias": Field("mlp_bias", False),
        "tie_embeddings": Field("tie_word_embeddings", False),
        "attention_dropout": Field("attention_dropout", 0.0),
    },
    parts=(rotation(), text_ids(bos=1, eos=2)),
    required={**TEXT_ONLY, "rope_interleaved": (False,)},
    ignored=("is_llama_config", "max_sequence_length"),
    weights={
        "embedding": "model.embed_tokens",
        **layers(
            "decoder.layers.{i}",
            "model.layers.{i}",
            {
                "attn_norm": "input_layernorm",
                "attn.q_proj": "self_attn.q_proj",
                "attn.k_proj": "self_attn.k_proj",
                "attn.v_proj": "self_attn.v_proj",
                "attn.out_proj": "self_attn.o_proj",
                "attn.q_norm": "self_attn.q_norm",
                "attn.k_norm": "self_attn.k_norm",
                "ffn_norm": "post_attention_layernorm",
                "ffn.gate_proj": "mlp.gate_proj",
                "ffn.up_proj": "mlp.up_proj",
                "ffn.down_proj": "mlp.down_proj",
            },
        ),
        "decoder.final_norm": "model.norm",
        "head": "lm_head",
    },
    prefix="model.",
    unused=("model.layers.{i}.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"),
)  # fmt: skip
"""Touvron et al. 2023; Grattafiori et al. 2024."""

FAMILIES = (LLAMA,)
