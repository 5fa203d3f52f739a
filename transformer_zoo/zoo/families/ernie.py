"""ERNIE 4.5, the dense models for text: Llama with rotation of neighbouring dimensions."""

from dataclasses import replace

from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.families.mistral import SHAPE
from transformer_zoo.zoo.huggingface.family import Field
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

_POSITIONS = {"positions.base": 5e5, "positions.layout": "interleaved"}

ERNIE4_5 = replace(
    LLAMA,
    model_type="ernie4_5",
    architecture="Ernie4_5ForCausalLM",
    sizes={
        # Baidu 2025, "ERNIE 4.5 Technical Report"; baidu/ERNIE-4.5-0.3B-PT.
        "ernie-4.5-0.3b": {
            **_POSITIONS, "vocab_size": 103424, "d_model": 1024, "n_heads": 16, "n_kv_heads": 2, "head_dim": 128,
            "d_ff": 3072, "n_layers": 18, "max_seq_len": 131072, "tie_embeddings": True, "pad_id": 0, "bos_id": 1,
            "eos_id": 2,
        },
    },
    fields={
        **{name: entry for name, entry in SHAPE.items() if name != "attention_dropout"},
        "vocab_size": Field("vocab_size", 103424),
        "d_model": Field("hidden_size", 1024),
        "n_heads": Field("num_attention_heads", 16),
        "n_kv_heads": Field("num_key_value_heads", 2),
        "head_dim": Field("head_dim", 128),
        "n_layers": Field("num_hidden_layers", 18),
        "d_ff": Field("intermediate_size", 3072),
        "max_seq_len": Field("max_position_embeddings", 131072),
        "norm.eps": Field("rms_norm_eps", 1e-5),
        "bias": Field("use_bias", False),
        "tie_embeddings": Field("tie_word_embeddings", True),
    },
    parts=(rotation(default=5e5, layout="interleaved"), text_ids(bos=1, eos=2, pad=0)),
    required=TEXT_ONLY,
    ignored=("auto_map",),  # for files older than transformers' own class, which accepts no other code
)  # fmt: skip
"""Baidu 2025."""

FAMILIES = (ERNIE4_5,)
