"""Command R and Aya: attention beside feed-forward under one norm, and rotation of neighbouring dimensions."""

from dataclasses import replace

from transformer_zoo.config import LayerNormSpec
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.families.mistral import SHAPE
from transformer_zoo.zoo.huggingface.family import Field
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, alternating_window, far_unturned, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

_POSITIONS = {"positions.layout": "interleaved", "max_seq_len": 8192}
_IDS = {"vocab_size": 256000, "tie_embeddings": True, "pad_id": 0, "bos_id": 5, "eos_id": 255001}

COHERE = replace(
    LLAMA,
    model_type="cohere",
    architecture="CohereForCausalLM",
    constants={
        **LLAMA.constants, "norm": LayerNormSpec(learned="weight"), "norm_position": "parallel_shared",
    },
    sizes={
        # Aryabumi et al. 2024, "Aya 23: Open Weight Releases to Further Multilingual Progress"; CohereForAI/aya-23-8B.
        "aya-23-8b": {
            **_POSITIONS, **_IDS, "d_model": 4096, "n_heads": 32, "n_kv_heads": 8, "d_ff": 14336, "n_layers": 32,
            "logit_scale": 0.0625,
        },
    },
    fields={
        **SHAPE,
        "vocab_size": Field("vocab_size", 256000),
        "d_model": Field("hidden_size", 8192),
        "n_heads": Field("num_attention_heads", 64),
        "n_layers": Field("num_hidden_layers", 40),
        "d_ff": Field("intermediate_size", 22528),
        "max_seq_len": Field("max_position_embeddings", 8192),
        "attention.bias": LLAMA.fields["attention.bias"],
        "norm.eps": Field("layer_norm_eps", 1e-5),
        "logit_scale": Field("logit_scale", 0.0625),
        "tie_embeddings": Field("tie_word_embeddings", True),
    },
    parts=(rotation(default=5e5, layout="interleaved"), text_ids(bos=5, eos=255001, pad=0)),
    required={**TEXT_ONLY, "use_qk_norm": (False, None)},
    ignored=(),
)  # fmt: skip
"""Cohere 2024."""

_WINDOWS = alternating_window(4, pattern=True)

COHERE2 = replace(
    COHERE,
    model_type="cohere2",
    architecture="Cohere2ForCausalLM",
    sizes={
        # Cohere 2025, "Command A: An Enterprise-Ready Large Language Model"; CohereForAI/c4ai-command-r7b-12-2024.
        "command-r7b": {
            **_POSITIONS, **_IDS, "max_seq_len": 132096, "d_model": 4096, "n_heads": 32, "n_kv_heads": 8,
            "d_ff": 14336, "n_layers": 32, "logit_scale": 0.25, "positions.base": 5e4,
            "layer": [{"attention": {"window": 4096}}] * 3 + [{"positions": None}],
        },
    },
    parts=(
        rotation(layout="interleaved"),
        replace(_WINDOWS, read=lambda theirs, ours: far_unturned(_WINDOWS.read(theirs, ours))),
        text_ids(bos=5, eos=255001, pad=0),
    ),
    # transformers does not read these.
    ignored=(
        "layer_switch", "order_of_interleaved_layers", "position_embedding_type", "rotary_pct", "use_embedding_sharing",
        "use_gated_activation", "use_parallel_block", "use_parallel_embedding",
    ),
)  # fmt: skip
"""Cohere 2025: three layers with a window, then one that sees all and has no positions."""

FAMILIES = (COHERE, COHERE2)
