"""GPT-Neo: GPT-2 with a window in every other layer, and scores that are not scaled."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families.gpt import GPT2
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, layers
from transformer_zoo.zoo.huggingface.parts import text_ids, window_of

_KINDS = ("global", "local")


def _read_layers(theirs: Fields, ours: Fields) -> dict[str, Any]:
    """attention_types has kinds and how often each repeats; attention_layers has each layer's kind."""
    types = theirs.get("attention_types") or [[_KINDS, 12]]
    kinds = [kind for some, times in types for _ in range(times) for kind in some]
    if theirs.get("attention_layers") not in (None, kinds):
        raise UserError("config.json: attention_layers and attention_types say different things")
    if len(kinds) != ours["n_layers"] or not set(kinds) <= set(_KINDS):
        raise UserError(
            f"config.json: attention_types must name {ours['n_layers']} layers as {' or '.join(_KINDS)}: {types}"
        )
    window = theirs.get("window_size", 256)
    return {"layer": [{"attention": {"window": window if kind == "local" else None}} for kind in kinds]}


def _write_layers(config: DecoderConfig) -> dict[str, Any]:
    kinds = ["global" if layer.attention.window is None else "local" for layer in config.decoder.layers]
    window = window_of(config) or 256
    return {"attention_types": [[kinds, 1]], "attention_layers": kinds, "window_size": window}


def _read_inner(theirs: Fields, ours: Fields) -> dict[str, Any]:
    inner = theirs.get("intermediate_size")
    return {"d_ff": 4 * ours["d_model"] if inner is None else inner}


def _write_inner(config: DecoderConfig) -> dict[str, Any]:
    ffn = config.decoder.layers[0].ffn
    return {"intermediate_size": getattr(ffn, "d_ff", None), "embed_dropout": config.dropout}


def _size(n_layers: int, d_model: int, n_heads: int) -> dict[str, Any]:
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "d_ff": 4 * d_model, "max_seq_len": 2048}
    still = {"dropout": 0.0, "attention_dropout": 0.0}
    return {**shape, **still, "vocab_size": 50257, "eos_id": 50256, "layer": [{}, {"attention": {"window": 256}}]}


GPT_NEO = replace(
    GPT2,
    model_type="gpt_neo",
    architecture="GPTNeoForCausalLM",
    constants={**GPT2.constants, "attention.scale": 1.0, "attention.qkv_bias": False},
    # Black et al. 2021; EleutherAI/gpt-neo-125m, -1.3B and -2.7B.
    sizes={
        "gpt-neo-125m": _size(12, 768, 12),
        "gpt-neo-1.3b": _size(24, 2048, 16),
        "gpt-neo-2.7b": _size(32, 2560, 20),
    },
    fields={
        "vocab_size": Field("vocab_size", 50257),
        "d_model": Field("hidden_size", 2048),
        "n_heads": Field("num_heads", 16),
        "n_layers": Field("num_layers", 24),
        "max_seq_len": Field("max_position_embeddings", 2048),
        "activation": Field("activation_function", "gelu_new", ACTIVATIONS),
        "norm.eps": Field("layer_norm_epsilon", 1e-5),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("resid_dropout", 0.0),
        "attention_dropout": Field("attention_dropout", 0.0),
    },
    parts=(
        Part({"intermediate_size": int}, _read_inner, _write_inner),
        Part({"attention_types": list, "attention_layers": list, "window_size": int}, _read_layers, _write_layers),
        text_ids(bos=50256, eos=50256, padded=False),
    ),
    ignored=("embed_dropout", *(name for name in GPT2.ignored if name.startswith("summary_"))),
    aliases={"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"},
    weights={
        **{name: entry for name, entry in GPT2.weights.items() if ".layers." not in name},
        **layers(
            "decoder.layers.{i}",
            "transformer.h.{i}",
            {
                "attn_norm": "ln_1",
                "attn.q_proj": "attn.attention.q_proj",
                "attn.k_proj": "attn.attention.k_proj",
                "attn.v_proj": "attn.attention.v_proj",
                "attn.out_proj": "attn.attention.out_proj",
                "ffn_norm": "ln_2",
                "ffn.up_proj": "mlp.c_fc",
                "ffn.down_proj": "mlp.c_proj",
            },
        ),
    },
    unused=("transformer.h.{i}.attn.attention.bias", "transformer.h.{i}.attn.attention.masked_bias"),
)
"""Black et al. 2021, "GPT-Neo: Large Scale Autoregressive Language Modeling with Mesh-Tensorflow"."""

FAMILIES = (GPT_NEO,)
