"""Mistral."""

from dataclasses import replace

from transformer_zoo.zoo.families.llama import LLAMA, LLAMA2
from transformer_zoo.zoo.huggingface.family import Field
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY

# The projections of the attention's output and of the feed-forward have no field for a bias, and no bias.
SHAPE = {name: entry for name, entry in LLAMA.fields.items() if name not in ("attention.bias", "ffn.bias")}
# Jiang et al. 2023, "Mistral 7B", Table 1; mistralai/Mistral-7B-v0.1.
_7B = {**LLAMA2, "n_kv_heads": 8, "d_ff": 14336, "max_seq_len": 32768}

MISTRAL = replace(
    LLAMA,
    model_type="mistral",
    architecture="MistralForCausalLM",
    sizes={
        "mistral-7b-v0.1": {**_7B, "sliding_window": 4096},
        "mistral-7b-v0.3": {**_7B, "vocab_size": 32768, "positions.base": 1e6},
    },
    fields={
        **SHAPE,
        "n_kv_heads": Field("num_key_value_heads", 8),
        "d_ff": Field("intermediate_size", 14336),
        "max_seq_len": Field("max_position_embeddings", 131072),
        "sliding_window": Field("sliding_window", 4096),
    },
    required=TEXT_ONLY,
    ignored=(),
)
"""Jiang et al. 2023."""

FAMILIES = (MISTRAL,)
