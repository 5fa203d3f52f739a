"""OLMo: Llama with a LayerNorm that learns nothing, and bounded queries, keys and values."""

from dataclasses import replace

from transformer_zoo.config import LayerNormSpec
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.family import Field
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

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

FAMILIES = (OLMO,)
