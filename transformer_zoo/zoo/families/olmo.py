"""OLMo, Llama with a LayerNorm that learns nothing, and OLMo 2 and 3, with norms after their sublayers."""

from dataclasses import replace

from transformer_zoo.config import LayerNormSpec, RotarySpec, YarnSpec
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.family import Field, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation, rotations_and_windows

_IDS = {"vocab_size": 50304, "max_seq_len": 2048, "pad_id": 1, "eos_id": 50279}

OLMO = replace(
    LLAMA,
    model_type="olmo",
    architecture="OlmoForCausalLM",
    constants={**LLAMA.constants, "norm": LayerNormSpec(learned="nothing")},
    # Groeneveld et al. 2024, "OLMo: Accelerating the Science of Language Models", Table 1; allenai/OLMo-1B-hf, -7B-hf.
    sizes={
        "olmo-1b": {**_IDS, "d_model": 2048, "n_heads": 16, "d_ff": 8192, "n_layers": 16, "tie_embeddings": True},
        "olmo-7b": {**_IDS, "d_model": 4096, "n_heads": 32, "d_ff": 11008, "n_layers": 32},
    },
    fields={
        **{name: entry for name, entry in LLAMA.fields.items() if name not in ("norm.eps", "ffn.bias")},
        "vocab_size": Field("vocab_size", 50304),
        "attention.clip": Field("clip_qkv", None, kind=float),
    },
    parts=(rotation(), text_ids(bos=None, eos=50279, pad=1)),
    required=TEXT_ONLY,
    ignored=(),
)
"""Groeneveld et al. 2024."""

_2 = {
    "vocab_size": 100352, "max_seq_len": 4096, "norm.eps": 1e-6, "attention.qk_norm.eps": 1e-6, "positions.base": 5e5,
    "pad_id": 100277, "eos_id": 100257,
}  # fmt: skip

NORMS_OUT = layers(
    "decoder.layers.{i}",
    "model.layers.{i}",
    {"attn_norm": "post_attention_layernorm", "ffn_norm": "post_feedforward_layernorm"},
)

OLMO2 = replace(
    OLMO,
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    constants={
        **LLAMA.constants,
        "norm_position": "out",
        "attention.qk_norm": "rmsnorm",
        "attention.qk_norm_over": "all_heads",
    },
    # OLMo Team 2025, "2 OLMo 2 Furious", Table 3; allenai/OLMo-2-0425-1B, -1124-7B, -1124-13B and -0325-32B.
    sizes={
        "olmo-2-1b": {**_2, "d_model": 2048, "n_heads": 16, "d_ff": 8192, "n_layers": 16},
        "olmo-2-7b": {**_2, "d_model": 4096, "n_heads": 32, "d_ff": 11008, "n_layers": 32},
        "olmo-2-13b": {**_2, "d_model": 5120, "n_heads": 40, "d_ff": 13824, "n_layers": 40},
        "olmo-2-32b": {**_2, "d_model": 5120, "n_heads": 40, "n_kv_heads": 8, "d_ff": 27648, "n_layers": 64},
    },
    fields={
        **{name: entry for name, entry in OLMO.fields.items() if name != "attention.clip"},
        "norm.eps": Field("rms_norm_eps", 1e-5),
        "attention.qk_norm.eps": Field("rms_norm_eps", 1e-5),
    },
    weights={
        **LLAMA.weights,
        **NORMS_OUT,
        **layers(
            "decoder.layers.{i}.attn",
            "model.layers.{i}.self_attn",
            {"q_norm.norm": "q_norm", "k_norm.norm": "k_norm"},
        ),
    },
)
"""OLMo Team 2025."""

_3 = {
    **_2, "vocab_size": 100278, "max_seq_len": 65536, "n_layers": 32,
    "positions.scaling": YarnSpec(factor=8.0, original_max_seq_len=8192),
    "layer": [{"attention": {"window": 4096}, "positions": RotarySpec(base=5e5)}] * 3 + [{}],
}  # fmt: skip

OLMO3 = replace(
    OLMO2,
    model_type="olmo3",
    architecture="Olmo3ForCausalLM",
    # OLMo Team 2025, "Olmo 3"; allenai/Olmo-3-1025-7B and Olmo-3-1125-32B.
    sizes={
        "olmo-3-7b": {**_3, "d_model": 4096, "n_heads": 32, "d_ff": 11008},
        "olmo-3-32b": {**_3, "d_model": 5120, "n_heads": 40, "n_kv_heads": 8, "d_ff": 27648, "n_layers": 64},
    },
    parts=(
        rotations_and_windows({"full_attention": 5e5, "sliding_attention": 5e5}, each=4),
        text_ids(bos=None, eos=50279, pad=1),
    ),
)
"""OLMo Team 2025, "Olmo 3": three layers with a window, then one that sees all and has a scaled rotation."""

FAMILIES = (OLMO, OLMO2, OLMO3)
