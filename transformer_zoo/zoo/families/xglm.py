"""XGLM."""

from typing import Any

from transformer_zoo.config import DecoderConfig, SinusoidalSpec
from transformer_zoo.zoo.families.opt import OPT
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, Fields, Part
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids


def _read_blank(theirs: Fields, ours: Fields) -> dict[str, Any]:
    """In the table of sinusoids the row of pad's id is zero, whichever token is at that position."""
    pad = theirs.get("pad_token_id", 1)
    return {"positions.blank": pad - 2 if isinstance(pad, int) and pad >= 2 else None}


def _size(n_layers: int, d_model: int, d_ff: int, n_heads: int) -> dict[str, Any]:
    """Lin et al. 2021, "Few-shot Learning with Multilingual Language Models", Table 2; facebook/xglm-564M, ..."""
    shape = {"n_layers": n_layers, "d_model": d_model, "d_ff": d_ff, "n_heads": n_heads}
    return {"vocab_size": 256008, "max_seq_len": 2048, **shape, "pad_id": 1, "bos_id": 0, "eos_id": 2}


XGLM = Family(
    model_type="xglm",
    architecture="XGLMForCausalLM",
    config=DecoderConfig,
    constants={
        "norm_position": "pre",
        "positions": SinusoidalSpec(layout="halves_inclusive", offset=2),
        "activation": "gelu",
        "scale_embeddings": True,
    },
    sizes={
        "xglm-564m": _size(24, 1024, 4096, 16),
        "xglm-1.7b": _size(24, 2048, 8192, 16),
        "xglm-2.9b": _size(48, 2048, 8192, 16),
        "xglm-4.5b": _size(48, 2048, 16384, 16),
        "xglm-7.5b": _size(32, 4096, 16384, 32),
    },
    fields={
        "vocab_size": Field("vocab_size", 256008),
        "d_model": Field("d_model", 1024),
        "n_heads": Field("attention_heads", 16),
        "n_layers": Field("num_layers", 24),
        "d_ff": Field("ffn_dim", 4096),
        "max_seq_len": Field("max_position_embeddings", 2048),
        "activation": Field("activation_function", "gelu", ACTIVATIONS),
        "scale_embeddings": Field("scale_embedding", True),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("dropout", 0.1),
        "attention_dropout": Field("attention_dropout", 0.1),
        "activation_dropout": Field("activation_dropout", 0.0),
    },
    parts=(text_ids(bos=0, eos=2, pad=1), Part({}, _read_blank, lambda config: {})),
    required=TEXT_ONLY,
    ignored=("layerdrop",),
    aliases={"hidden_size": "d_model", "num_attention_heads": "attention_heads", "num_hidden_layers": "num_layers"},
    weights={
        **{name: str(theirs).replace("model.decoder.", "model.") for name, theirs in OPT.weights.items()},
        "decoder.final_norm": "model.layer_norm",
    },
    prefix="model.",
    unused=("model.embed_positions.weights",),
)
"""Lin et al. 2022."""

FAMILIES = (XGLM,)
