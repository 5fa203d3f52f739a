"""Phi-3 and Phi-4: Llama whose projections are fused."""

from dataclasses import replace

from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.families.mistral import MISTRAL
from transformer_zoo.zoo.huggingface.family import Field, Weight, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

_3 = {
    "vocab_size": 32064, "max_seq_len": 4096, "sliding_window": 2047, "pad_id": 32000, "bos_id": 1, "eos_id": 32000,
}  # fmt: skip

GATE_AND_UP = layers(
    "decoder.layers.{i}.ffn",
    "model.layers.{i}.mlp",
    {"gate_proj": Weight("gate_up_proj", part=0), "up_proj": Weight("gate_up_proj", part=1)},
)

PHI3 = replace(
    MISTRAL,
    model_type="phi3",
    architecture="Phi3ForCausalLM",
    sizes={
        # Abdin et al. 2024, "Phi-3 Technical Report"; microsoft/Phi-3-mini-4k-instruct and -medium-4k-instruct.
        "phi-3-mini-4k": {**_3, "d_model": 3072, "n_heads": 32, "d_ff": 8192, "n_layers": 32},
        "phi-3-medium-4k": {**_3, "d_model": 5120, "n_heads": 40, "n_kv_heads": 10, "d_ff": 17920, "n_layers": 40},
        # Abdin et al. 2024, "Phi-4 Technical Report".
        "phi-4": {
            "vocab_size": 100352, "d_model": 5120, "n_heads": 40, "n_kv_heads": 10, "d_ff": 17920, "n_layers": 40,
            "max_seq_len": 16384, "positions.base": 250000.0, "eos_id": 100257,
        },
    },
    fields={
        **{name: entry for name, entry in MISTRAL.fields.items() if name != "head_dim"},
        "vocab_size": Field("vocab_size", 32064),
        "d_model": Field("hidden_size", 3072),
        "n_kv_heads": Field("num_key_value_heads", None),
        "d_ff": Field("intermediate_size", 8192),
        "max_seq_len": Field("max_position_embeddings", 4096),
        "norm.eps": Field("rms_norm_eps", 1e-5),
        "sliding_window": Field("sliding_window", None),
        "dropout": Field("resid_pdrop", 0.0),
    },
    parts=(
        rotation(fraction="partial_rotary_factor", scalings=()),  # what is called yarn there is longrope
        text_ids(bos=1, eos=32000, pad=32000),
    ),
    required={**TEXT_ONLY, "attention_bias": (False,)},
    # auto_map: of the files that are older than transformers' own class, which takes no other code.
    ignored=("auto_map", "embd_pdrop", "original_max_position_embeddings"),
    weights={
        **LLAMA.weights,
        **GATE_AND_UP,
        **layers(
            "decoder.layers.{i}",
            "model.layers.{i}",
            {
                "attn.q_proj": Weight("self_attn.qkv_proj", part=0),
                "attn.k_proj": Weight("self_attn.qkv_proj", part=1),
                "attn.v_proj": Weight("self_attn.qkv_proj", part=2),
            },
        ),
    },
)  # fmt: skip
"""Abdin et al. 2024."""

FAMILIES = (PHI3,)
