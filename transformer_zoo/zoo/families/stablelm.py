"""StableLM: Llama with LayerNorm, biases on queries, keys and values, and a rotation of part of each head."""

from dataclasses import replace
from typing import Any, Literal

from transformer_zoo.config import DecoderConfig, LayerNormSpec
from transformer_zoo.config.attention import QkNormOver
from transformer_zoo.zoo.families.llama import LLAMA, LLAMA2
from transformer_zoo.zoo.families.mistral import SHAPE
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation


def qk_layernorm(learned: Literal["weight and bias", "weight"], over: QkNormOver) -> Part:
    """Norms over queries and keys, where there are any."""

    def read(theirs: Fields, ours: Fields) -> dict[str, Any]:
        norm = LayerNormSpec(learned=learned, eps=ours["norm.eps"])
        has_one = theirs.get("qk_layernorm", False)
        return {"attention.qk_norm": norm, "attention.qk_norm_over": over} if has_one else {}

    def write(config: DecoderConfig) -> dict[str, Any]:
        return {"qk_layernorm": getattr(config.decoder.layers[0].attention, "qk_norm", None) is not None}

    return Part({"qk_layernorm": bool}, read, write)


_2 = {**LLAMA2, "vocab_size": 100352, "bos_id": 100257, "eos_id": 100257}

STABLELM = replace(
    LLAMA,
    model_type="stablelm",
    architecture="StableLmForCausalLM",
    constants={**LLAMA.constants, "norm": "layernorm"},
    sizes={
        # Tow et al. 2023, stabilityai/stablelm-3b-4e1t.
        "stablelm-3b": {
            **LLAMA2, "vocab_size": 50304, "d_model": 2560, "d_ff": 6912, "positions.dim": 20, "bos_id": 0, "eos_id": 0,
        },
        # Bellagente et al. 2024; stabilityai/stablelm-2-1_6b and -12b. Their cards count 1,644,417,024 parameters,
        # without the biases of the layers' norms, and 12,143,605,760, with the 41 norms twice, as two GPUs had them.
        "stablelm-2-1.6b": {
            **_2, "d_model": 2048, "d_ff": 5632, "n_layers": 24, "positions.dim": 16, "attention.qkv_bias": True,
        },
        "stablelm-2-12b": {
            **_2, "d_model": 5120, "n_kv_heads": 8, "d_ff": 13824, "n_layers": 40, "positions.dim": 40,
            "norm_position": "parallel_shared", "attention.qk_norm": LayerNormSpec(learned="weight"),
            "attention.qk_norm_over": "own_head",
        },
    },
    fields={
        **{name: entry for name, entry in SHAPE.items() if name != "head_dim"},
        "vocab_size": Field("vocab_size", 50304),
        "d_model": Field("hidden_size", 2560),
        "n_kv_heads": Field("num_key_value_heads", 32),
        "d_ff": Field("intermediate_size", 6912),
        "max_seq_len": Field("max_position_embeddings", 4096),
        "norm.eps": Field("layer_norm_eps", 1e-5),
        "attention.qkv_bias": Field("use_qkv_bias", False),
        "norm_position": Field("use_parallel_residual", False, {False: "pre", True: "parallel_shared"}),
        "dropout": Field("hidden_dropout", 0.0),
    },
    parts=(
        rotation(fraction="partial_rotary_factor", default_fraction=0.25),
        qk_layernorm("weight", "own_head"),
        text_ids(bos=0, eos=0),
    ),
    required={**TEXT_ONLY, "rotary_scaling_factor": (1.0,)},
    ignored=("use_norm_bias",),  # transformers does not read it: all of its norms have one
    weights={
        **LLAMA.weights,
        **layers(
            "decoder.layers.{i}.attn",
            "model.layers.{i}.self_attn",
            {"q_norm.norms.{j}": "q_layernorm.norms.{j}", "k_norm.norms.{j}": "k_layernorm.norms.{j}"},
        ),
    },
)  # fmt: skip
"""Bellagente et al. 2024, "Stable LM 2 1.6B Technical Report"."""

FAMILIES = (STABLELM,)
