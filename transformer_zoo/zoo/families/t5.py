"""T5, T5 v1.1, Flan-T5 and Flan-UL2, ByT5 and MADLAD-400."""

from typing import Any

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.config.changes import value_at
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, Fields, Part, layers
from transformer_zoo.zoo.huggingface.parts import ENCODER_DECODER, translation_ids


def feed_forward(default: str) -> Part:
    """feed_forward_proj is "relu" or "gated-gelu"; the fields saved beside it take precedence."""

    def read(theirs: Fields, ours: Fields) -> dict[str, Any]:
        words = theirs.get("feed_forward_proj", default).split("-")
        if len(words) > 2 or (len(words) == 2 and words[0] != "gated"):
            raise UserError(f"config.json: feed_forward_proj is {'-'.join(words)!r}, expected one such as 'gated-gelu'")
        name = "gelu_new" if words == ["gated", "gelu"] else words[-1]
        activation = Field("dense_act_fn", name, ACTIVATIONS).read(theirs)
        return {"gated": theirs.get("is_gated_act", words[0] == "gated"), "activation": activation}

    names = {"feed_forward_proj": str, "dense_act_fn": str, "is_gated_act": bool}
    return Part(names, read, _write_ffn, limits=("feed_forward_proj", "dense_act_fn"))


def _write_ffn(config: EncoderDecoderConfig) -> dict[str, Any]:
    activation = value_at(config, "activation")
    name = next((theirs for theirs, ours in ACTIVATIONS.items() if ours == activation), activation)
    if value_at(config, "ffn.gated"):
        # "gated-gelu" is the approximation, as it was from the start.
        name = "gated-" + {"gelu_new": "gelu", "gelu": "gelu_python"}.get(name, name)
    return {"feed_forward_proj": name}


def _read_head(theirs: Fields, ours: Fields) -> dict[str, Any]:
    """tie_word_embeddings says how logits are scaled; a separate head, if there is one, is among the weights."""
    tied = theirs.get("tie_word_embeddings", True) is not False
    scaled = theirs.get("scale_decoder_outputs", tied)
    return {
        "share_embeddings": "all" if tied else "inputs",
        "logit_scale": "d_model" if scaled else None,
    }


def _write_head(config: EncoderDecoderConfig) -> dict[str, Any]:
    return {
        "tie_word_embeddings": config.share_embeddings == "all",
        "scale_decoder_outputs": config.logit_scale is not None,
    }


def _read_layers(theirs: Fields, ours: Fields) -> dict[str, Any]:
    n_layers = theirs.get("num_decoder_layers")
    return {"decoder.n_layers": ours["encoder.n_layers"] if n_layers is None else n_layers}


def _write_layers(config: EncoderDecoderConfig) -> dict[str, Any]:
    return {"num_decoder_layers": config.decoder.n_layers}


def _read_dropout(theirs: Fields, ours: Fields) -> dict[str, Any]:
    return {"attention_dropout": ours["dropout"], "activation_dropout": ours["dropout"]}


def _attention(layer: int, ours: str, theirs: str) -> dict[str, str]:
    inside = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "o", "scores": "relative_attention_bias"}
    parts = {f"{ours}.{name}": f"layer.{layer}.{theirs}.{part}" for name, part in inside.items()}
    return {f"{ours}_norm": f"layer.{layer}.layer_norm", **parts}


_SELF, _CROSS = _attention(0, "attn", "SelfAttention"), _attention(1, "cross_attn", "EncDecAttention")


def _ffn(layer: int, up: str) -> dict[str, str]:
    inside = f"layer.{layer}.DenseReluDense"
    return {
        "ffn_norm": f"layer.{layer}.layer_norm",
        "ffn.gate_proj": f"{inside}.wi_0",
        "ffn.up_proj": f"{inside}.{up}",
        "ffn.down_proj": f"{inside}.wo",
    }


def _size(n_layers: int, d_model: int, d_ff: int, n_heads: int, head_dim: int) -> dict[str, Any]:
    """Raffel et al. 2019, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer"."""
    shape = {"n_layers": n_layers, "d_model": d_model, "d_ff": d_ff, "n_heads": n_heads, "head_dim": head_dim}
    some_dropout = {"attention_dropout": 0.1, "activation_dropout": 0.1}
    ids = {"bos_id": 0, "eos_id": 1, "never_ids": ()}
    numbers = {"vocab_size": 32128, "max_seq_len": 512, "norm.eps": 1e-6, "logit_scale": "d_model"}
    return {**shape, **some_dropout, **ids, **numbers}


def _size_v1_1(n_layers: int, d_model: int, d_ff: int, n_heads: int) -> dict[str, Any]:
    """Shazeer 2020, "GLU Variants Improve Transformer": GeGLU, and a separate head, whose logits are not scaled."""
    gated = {"activation": "gelu_tanh", "gated": True, "share_embeddings": "inputs", "logit_scale": None}
    return {**_size(n_layers, d_model, d_ff, n_heads, 64), **gated}


V1_1 = {
    "small": _size_v1_1(8, 512, 1024, 6),
    "base": _size_v1_1(12, 768, 2048, 12),
    "large": _size_v1_1(24, 1024, 2816, 16),
    "xl": _size_v1_1(24, 2048, 5120, 32),
    "xxl": _size_v1_1(24, 4096, 10240, 64),
}


def _size_byt5(n_encoder_layers: int, n_decoder_layers: int, d_model: int, d_ff: int, n_heads: int) -> dict[str, Any]:
    """Xue et al. 2021, "ByT5: Towards a token-free future with pre-trained byte-to-byte models", Table 1."""
    layers = {"encoder.n_layers": n_encoder_layers, "decoder.n_layers": n_decoder_layers}
    return {**_size_v1_1(n_encoder_layers, d_model, d_ff, n_heads), **layers, "vocab_size": 384}


_MADLAD = {"vocab_size": 256000, "head_dim": 128, "pad_id": 1, "eos_id": 2}

T5 = Family(
    model_type="t5",
    architecture="T5ForConditionalGeneration",
    config=EncoderDecoderConfig,
    sizes={
        "t5-small": _size(6, 512, 2048, 8, 64),
        "t5-base": _size(12, 768, 3072, 12, 64),
        "t5-large": _size(24, 1024, 4096, 16, 64),
        "t5-3b": _size(24, 1024, 16384, 32, 128),
        "t5-11b": _size(24, 1024, 65536, 128, 128),
        **{f"t5-v1.1-{size}": fields for size, fields in V1_1.items()},
        # Chung et al. 2022, "Scaling Instruction-Finetuned Language Models", from the same shapes.
        **{f"flan-t5-{size}": fields for size, fields in V1_1.items()},
        # Tay et al. 2022, "UL2: Unifying Language Learning Paradigms"; unlike T5 1.1 it has one matrix for all.
        "flan-ul2": {**_size(32, 4096, 16384, 16, 256), "activation": "silu", "gated": True},
        "byt5-small": _size_byt5(12, 4, 1472, 3584, 6),
        "byt5-base": _size_byt5(18, 6, 1536, 3968, 12),
        "byt5-large": _size_byt5(36, 12, 1536, 3840, 16),
        "byt5-xl": _size_byt5(36, 12, 2560, 6720, 32),
        "byt5-xxl": _size_byt5(36, 12, 4672, 12352, 64),
        # Kudugunta et al. 2023, "MADLAD-400: A Multilingual And Document-Level Large Audited Dataset".
        "madlad400-3b": {**_size_v1_1(32, 1024, 8192, 16), **_MADLAD},
        "madlad400-7b": {**_size_v1_1(48, 2048, 8192, 16), **_MADLAD},
        "madlad400-10b": {**_size_v1_1(32, 2048, 16384, 32), **_MADLAD},
    },
    fields={
        "vocab_size": Field("vocab_size", 32128),
        "d_model": Field("d_model", 512),
        "n_heads": Field("num_heads", 8),
        "head_dim": Field("d_kv", 64),
        "d_ff": Field("d_ff", 2048),
        "encoder.n_layers": Field("num_layers", 6),
        "max_seq_len": Field("n_positions", 512),
        "norm.eps": Field("layer_norm_epsilon", 1e-6),
        "positions.buckets": Field("relative_attention_num_buckets", 32),
        "positions.max_distance": Field("relative_attention_max_distance", 128),
        "dropout": Field("dropout_rate", 0.1),
    },
    parts=(
        Part({"num_decoder_layers": int}, _read_layers, _write_layers),
        Part({}, _read_dropout, lambda config: {}),
        feed_forward("relu"),
        Part({"tie_word_embeddings": bool, "scale_decoder_outputs": bool}, _read_head, _write_head),
        translation_ids(start=None, bos=None, eos=1, pad=0),
    ),
    constants={
        "norm": "rmsnorm",
        "norm_position": "pre",
        "bias": False,
        "positions": "relative",
        "attention.scale": 1.0,
        "scale_embeddings": False,
        "zero_pad": False,
    },
    required=ENCODER_DECODER,
    aliases={
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    },
    weights={
        "embedding": "shared",
        "source_embedding": "encoder.embed_tokens",
        "target_embedding": "decoder.embed_tokens",
        "encoder.positions": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
        **layers("encoder.layers.{i}", "encoder.block.{i}", {**_SELF, **_ffn(1, "wi")}),
        "encoder.final_norm": "encoder.final_layer_norm",
        "decoder.positions": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
        **layers("decoder.layers.{i}", "decoder.block.{i}", {**_SELF, **_CROSS, **_ffn(2, "wi")}),
        "decoder.final_norm": "decoder.final_layer_norm",
        "head": "lm_head",
    },
    weights_where={
        ("ffn.gated", True): {
            **layers("encoder.layers.{i}", "encoder.block.{i}", _ffn(1, "wi_1")),
            **layers("decoder.layers.{i}", "decoder.block.{i}", _ffn(2, "wi_1")),
        },
    },
    # A bias in the first files, which the first layer's cross-attention never used.
    unused=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
)
"""Raffel et al. 2020; v1.1 has the gated feed-forward of Shazeer 2020 and an untied head."""

FAMILIES = (T5,)
