"""Helium: Llama with rotation of neighbouring dimensions."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, spelled_out
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation


def _read_head_dim(theirs: Fields, ours: Fields) -> dict[str, Any]:
    head_dim = theirs.get("head_dim", 128)
    if ours["n_heads"] * head_dim != ours["d_model"]:  # its output projection is square
        raise UserError(f"config.json: head_dim is {head_dim}; only hidden_size / num_attention_heads is supported")
    return {"head_dim": head_dim}


def _write_head_dim(config: DecoderConfig) -> dict[str, Any]:
    return {"head_dim": spelled_out(config, "head_dim")}


HELIUM = replace(
    LLAMA,
    model_type="helium",
    architecture="HeliumForCausalLM",
    sizes={
        # Kyutai 2025, kyutai/helium-1-preview-2b.
        "helium-1-preview-2b": {
            "vocab_size": 48000, "d_model": 2560, "n_heads": 20, "d_ff": 7040, "n_layers": 24, "max_seq_len": 4096,
            "norm.eps": 1e-8, "positions.base": 1e5, "positions.layout": "interleaved", "pad_id": 3, "bos_id": 1,
            "eos_id": 2,
        },
    },
    fields={
        **{name: entry for name, entry in LLAMA.fields.items() if name not in ("attention.bias", "head_dim")},
        "vocab_size": Field("vocab_size", 48000),
        "d_model": Field("hidden_size", 2560),
        "n_heads": Field("num_attention_heads", 20),
        "n_kv_heads": Field("num_key_value_heads", 20),
        "n_layers": Field("num_hidden_layers", 24),
        "d_ff": Field("intermediate_size", 7040),
        "max_seq_len": Field("max_position_embeddings", 4096),
        "norm.eps": Field("rms_norm_eps", 1e-8),
        "attention.qkv_bias": Field("attention_bias", False),
    },
    parts=(
        Part({"head_dim": int}, _read_head_dim, _write_head_dim, limits=("head_dim",)),
        rotation(default=1e5, layout="interleaved"),
        text_ids(bos=1, eos=2, pad=3),
    ),
    required=TEXT_ONLY,
    ignored=(),
)  # fmt: skip
"""Kyutai 2025, "Helium 1: a modular and multilingual LLM"."""

FAMILIES = (HELIUM,)
