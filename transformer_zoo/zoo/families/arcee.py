"""Arcee's foundation models: Llama with a squared ReLU instead of the gated feed-forward."""

from dataclasses import replace

from transformer_zoo.config import YarnSpec
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

ARCEE = replace(
    LLAMA,
    model_type="arcee",
    architecture="ArceeForCausalLM",
    constants={**LLAMA.constants, "gated": False, "activation": "relu_squared"},
    sizes={
        # Arcee AI 2025; arcee-ai/AFM-4.5B.
        "afm-4.5b": {
            "vocab_size": 128005, "d_model": 2560, "n_heads": 20, "n_kv_heads": 4, "d_ff": 18432, "n_layers": 36,
            "max_seq_len": 65536, "positions.scaling": YarnSpec(factor=20.0, original_max_seq_len=4096),
            "bos_id": 128000, "eos_id": 128003,
        },
    },
    fields={
        **LLAMA.fields,
        "d_model": Field("hidden_size", 2560),
        "d_ff": Field("intermediate_size", 18432),
        "max_seq_len": Field("max_position_embeddings", 4096),
        "activation": Field("hidden_act", "relu2", ACTIVATIONS),
        "norm.eps": Field("rms_norm_eps", 1e-5),
    },
    parts=(rotation(), text_ids(bos=128000, eos=128001)),
    required=TEXT_ONLY,
    ignored=(),
)  # fmt: skip
"""Arcee AI 2025, AFM-4.5B."""

FAMILIES = (ARCEE,)
