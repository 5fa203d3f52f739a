"""Arcee's foundation models: Llama with a squared ReLU in place of the gated feed-forward."""

from dataclasses import replace

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
    sizes={},
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
)
"""Arcee AI 2025, AFM-4.5B."""

FAMILIES = (ARCEE,)
