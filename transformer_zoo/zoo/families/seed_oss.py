"""Seed-OSS: Llama with biases on queries, keys and values, and dropout."""

from dataclasses import replace

from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.family import Field
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

SEED_OSS = replace(
    LLAMA,
    model_type="seed_oss",
    architecture="SeedOssForCausalLM",
    sizes={
        # ByteDance-Seed/Seed-OSS-36B-Instruct.
        "seed-oss-36b": {
            "vocab_size": 155136, "d_model": 5120, "n_heads": 80, "n_kv_heads": 8, "head_dim": 128, "d_ff": 27648,
            "n_layers": 64, "max_seq_len": 524288, "norm.eps": 1e-6, "positions.base": 1e7, "dropout": 0.1,
            "attention_dropout": 0.1, "attention.qkv_bias": True, "bos_id": 0, "eos_id": 2, "pad_id": 1,
        },
    },
    fields={
        **LLAMA.fields,
        "vocab_size": Field("vocab_size", 155136),
        "n_heads": Field("num_attention_heads", 80),
        "n_kv_heads": Field("num_key_value_heads", 8),
        "head_dim": Field("head_dim", 128),
        "n_layers": Field("num_hidden_layers", 64),
        "d_ff": Field("intermediate_size", 27648),
        "max_seq_len": Field("max_position_embeddings", 524288),
        "attention.qkv_bias": Field("attention_bias", True),
        "attention.bias": Field("attention_out_bias", False),
        "dropout": Field("residual_dropout", 0.1),
        "attention_dropout": Field("attention_dropout", 0.1),
    },
    parts=(rotation(), text_ids(bos=0, eos=2, pad=1)),
    required=TEXT_ONLY,
    ignored=(),
)  # fmt: skip
"""ByteDance Seed Team 2025."""

FAMILIES = (SEED_OSS,)
