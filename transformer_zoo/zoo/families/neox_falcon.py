"""Falcon in both layouts: attention beside feed-forward under one norm, or under one norm each.

A model that is a GPT-NeoX too is exported as one, because its file comes before this one.
"""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig
from transformer_zoo.config.changes import value_at
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families.bloom import BLOOM
from transformer_zoo.zoo.families.neox import GPT_NEOX
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, layers, spelled_out
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation


def _read_layout(theirs: Fields, ours: Fields) -> dict[str, Any]:
    """The norms, the number of key/value heads and the width of the feed-forward."""
    is_new, is_parallel = theirs.get("new_decoder_architecture", False), theirs.get("parallel_attn", True)
    norms = theirs.get("num_ln_in_parallel_attn") or (2 if is_new else 1)
    if is_new and not is_parallel:
        raise UserError("config.json: parallel_attn is False, which the new_decoder_architecture cannot be")
    if is_parallel and norms not in ((1, 2) if is_new else (1,)):
        raise UserError(f"config.json: num_ln_in_parallel_attn is {norms}, which is not supported for this layout")
    few = theirs.get("num_kv_heads") if is_new else 1 if theirs.get("multi_query", True) else None
    position = ("parallel" if norms == 2 else "parallel_shared") if is_parallel else "pre"
    return {
        "norm_position": position,
        "n_kv_heads": few or ours["n_heads"],
        "d_ff": theirs.get("ffn_hidden_size") or 4 * ours["d_model"],
    }


def _write_layout(config: DecoderConfig) -> dict[str, Any]:
    position, few = config.decoder.norm_position, spelled_out(config, "n_kv_heads")
    is_new = position == "parallel" or (position == "parallel_shared" and few not in (1, value_at(config, "n_heads")))
    return {
        "new_decoder_architecture": is_new,
        "parallel_attn": position != "pre",
        "num_ln_in_parallel_attn": {"parallel": 2, "parallel_shared": 1}.get(position),
        "num_kv_heads": few,
        "multi_query": few == 1,
        "ffn_hidden_size": getattr(config.decoder.layers[0].ffn, "d_ff", None),
    }


_IDS = {"vocab_size": 65024, "max_seq_len": 2048, "bos_id": 11, "eos_id": 11, "tie_embeddings": True}

FALCON = replace(
    GPT_NEOX,
    model_type="falcon",
    architecture="FalconForCausalLM",
    constants={"positions": "rotary"},
    sizes={
        # Almazrouei et al. 2023, Table 14; tiiuae/falcon-7b and -40b.
        "falcon-7b": {
            **_IDS, "d_model": 4544, "n_heads": 71, "n_kv_heads": 1, "d_ff": 18176, "n_layers": 32, "bias": False,
            "activation": "gelu", "norm_position": "parallel_shared", "dropout": 0.0, "attention_dropout": 0.0,
        },
        "falcon-40b": {
            **_IDS, "d_model": 8192, "n_heads": 128, "n_kv_heads": 8, "d_ff": 32768, "n_layers": 60, "bias": False,
            "activation": "gelu", "norm_position": "parallel", "dropout": 0.0, "attention_dropout": 0.0,
        },
    },
    fields={
        "vocab_size": Field("vocab_size", 65024),
        "d_model": Field("hidden_size", 4544),
        "n_heads": Field("num_attention_heads", 71),
        "n_layers": Field("num_hidden_layers", 32),
        "max_seq_len": Field("max_position_embeddings", 2048),
        "activation": Field("activation", "gelu", ACTIVATIONS),
        "norm.eps": Field("layer_norm_epsilon", 1e-5),
        "bias": Field("bias", False),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("hidden_dropout", 0.0),
        "attention_dropout": Field("attention_dropout", 0.0),
    },
    parts=(
        rotation(),
        Part(
            {
                **dict.fromkeys(("new_decoder_architecture", "parallel_attn", "multi_query"), bool),
                **dict.fromkeys(("num_ln_in_parallel_attn", "num_kv_heads", "ffn_hidden_size"), int),
            },
            _read_layout,
            _write_layout,
            limits=("parallel_attn", "num_ln_in_parallel_attn"),
        ),
        text_ids(bos=11, eos=11, padded=False),
    ),
    # Falcon rounds its ALiBi scores to bfloat16 and scales them.
    required={**TEXT_ONLY, "alibi": (False, None)},
    ignored=("apply_residual_connection_post_layernorm",),  # transformers does not read it
    aliases={"n_embed": "hidden_size"},
    weights={ours: theirs for ours, theirs in BLOOM.weights.items() if ours != "decoder.embedding_norm"},
    weights_where={
        ("norm_position", "parallel"): layers(
            "decoder.layers.{i}", "transformer.h.{i}", {"attn_norm": "ln_attn", "ffn_norm": "ln_mlp"}
        ),
    },
    prefix="transformer.",
    unused=(
        "transformer.h.{i}.self_attention.rotary_emb.inv_freq",
        "transformer.h.{i}.self_attention.maybe_rotary.inv_freq",
    ),
    renamed={},
)  # fmt: skip
"""Almazrouei et al. 2023, "The Falcon Series of Open Language Models"."""

FAMILIES = (FALCON,)
