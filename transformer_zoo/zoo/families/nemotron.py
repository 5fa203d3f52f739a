"""Nemotron and Minitron: squared ReLU without a gate, a partial rotation, and LayerNorm times 1 + weight."""

from dataclasses import replace

from transformer_zoo.config import LayerNormSpec
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

NEMOTRON = replace(
    LLAMA,
    model_type="nemotron",
    architecture="NemotronForCausalLM",
    constants={
        **{name: value for name, value in LLAMA.constants.items() if name != "gated"},
        "norm": LayerNormSpec(unit_offset=True),
    },
    sizes={
        # Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge Distillation", Table 1;
        # nvidia/Minitron-4B-Base.
        "minitron-4b": {
            "vocab_size": 256000, "d_model": 3072, "n_heads": 24, "n_kv_heads": 8, "d_ff": 9216, "n_layers": 32,
            "max_seq_len": 4096, "activation": "relu_squared", "positions.dim": 64, "bos_id": 2, "eos_id": 3,
        },
    },
    fields={
        **LLAMA.fields,
        "vocab_size": Field("vocab_size", 256000),
        "d_model": Field("hidden_size", 6144),
        "n_heads": Field("num_attention_heads", 48),
        "d_ff": Field("intermediate_size", 24576),
        "max_seq_len": Field("max_position_embeddings", 4096),
        "activation": Field("hidden_act", "relu2", ACTIVATIONS),
        "norm.eps": Field("norm_eps", 1e-5),
    },
    parts=(
        rotation(fraction="partial_rotary_factor", default_fraction=0.5),
        text_ids(bos=2, eos=3),
    ),
    required=TEXT_ONLY,
    ignored=("kv_channels",),  # transformers does not read it
)  # fmt: skip
"""Parmar et al. 2024, "Nemotron-4 15B Technical Report"."""

FAMILIES = (NEMOTRON,)
