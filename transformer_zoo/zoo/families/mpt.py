"""MPT."""

from typing import Any

from transformer_zoo.config import DecoderConfig, LayerNormSpec
from transformer_zoo.config.changes import value_at
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.common import GENERIC_FIELDS
from transformer_zoo.zoo.huggingface.family import Family, Field, Fields, Part, Weight, check_types, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids

_TYPES = {"attn_pdrop": float, "clip_qkv": float, "softmax_scale": float}
_ONLY = {**TEXT_ONLY, "alibi": (True,), "prefix_lm": (False,), "qk_ln": (False,), "attn_uses_sequence_id": (False,)}
_ONLY |= {"attn_type": ("multihead_attention",), "attn_impl": ("torch", "flash", "triton")}
_ONLY |= {"alibi_bias_max": (8,)}  # transformers always takes it for 8


def _read_attention(theirs: Fields, ours: Fields) -> dict[str, Any]:
    attention = theirs.get("attn_config") or {}
    for name, value in attention.items():
        if value not in _ONLY.get(name, (value,)):
            raise UserError(f"config.json: attn_config: {name} is {value!r}, which is not supported")
        if value and name not in GENERIC_FIELDS.union(_ONLY, _TYPES):
            raise UserError(f"config.json: attn_config: {name} is not known for mpt and may change the result")
    check_types(attention, _TYPES)
    dropout = attention.get("attn_pdrop", 0)
    return {
        "d_ff": 4 * ours["d_model"],
        "dropout": dropout,
        "attention_dropout": dropout,
        "attention.clip": attention.get("clip_qkv"),
        "attention.scale": attention.get("softmax_scale"),
    }


def _write_attention(config: DecoderConfig) -> dict[str, Any]:
    dropout = value_at(config, "attention_dropout")
    attention = {
        "attn_pdrop": int(dropout) if dropout == 0 else dropout,
        "clip_qkv": value_at(config, "attention.clip"),
        "softmax_scale": value_at(config, "attention.scale"),
    }
    return {"attn_config": attention}


_STILL = {"vocab_size": 50432, "dropout": 0.0, "attention_dropout": 0.0}

MPT = Family(
    model_type="mpt",
    architecture="MptForCausalLM",
    config=DecoderConfig,
    constants={
        "norm": LayerNormSpec(learned="weight"), "norm_position": "pre", "positions": "alibi", "bias": False,
        "activation": "gelu",
    },
    sizes={
        # MosaicML 2023, mosaicml/mpt-7b and -30b.
        "mpt-7b": {**_STILL, "d_model": 4096, "n_heads": 32, "d_ff": 16384, "n_layers": 32, "max_seq_len": 2048},
        "mpt-30b": {**_STILL, "d_model": 7168, "n_heads": 64, "d_ff": 28672, "n_layers": 48, "max_seq_len": 8192},
    },
    fields={
        "vocab_size": Field("vocab_size", 50368),
        "d_model": Field("d_model", 2048),
        "n_heads": Field("n_heads", 16),
        "n_layers": Field("n_layers", 24),
        "max_seq_len": Field("max_seq_len", 2048),
        "norm.eps": Field("layer_norm_epsilon", 1e-5),
        "tie_embeddings": Field("tie_word_embeddings", True),
    },
    parts=(
        Part({"attn_config": dict}, _read_attention, _write_attention, limits=tuple(_ONLY)),
        text_ids(bos=None, eos=None, padded=False),
    ),
    required={**TEXT_ONLY, "expansion_ratio": (4,), "no_bias": (True,), "logit_scale": (None,)},
    # Fields that transformers keeps for files only; auto_map is in files older than its own class.
    ignored=(
        "auto_map", "resid_pdrop", "emb_pdrop", "learned_pos_emb", "init_device", "init_config", "embedding_fraction",
        "norm_type", "tokenizer_name", "verbose",
    ),
    aliases={"num_attention_heads": "n_heads", "hidden_size": "d_model", "num_hidden_layers": "n_layers"},
    weights={
        "embedding": "transformer.wte",
        **layers(
            "decoder.layers.{i}",
            "transformer.blocks.{i}",
            {
                "attn_norm": "norm_1",
                "attn.q_proj": Weight("attn.Wqkv", part=0),
                "attn.k_proj": Weight("attn.Wqkv", part=1),
                "attn.v_proj": Weight("attn.Wqkv", part=2),
                "attn.out_proj": "attn.out_proj",
                "ffn_norm": "norm_2",
                "ffn.up_proj": "ffn.up_proj",
                "ffn.down_proj": "ffn.down_proj",
            },
        ),
        "decoder.final_norm": "transformer.norm_f",
        "head": "lm_head",
    },
    prefix="transformer.",
)  # fmt: skip
"""MosaicML NLP Team 2023, "Introducing MPT-7B"."""

FAMILIES = (MPT,)
