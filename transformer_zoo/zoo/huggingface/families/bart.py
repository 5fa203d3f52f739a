"""Marian (OPUS-MT), BART, mBART and M2M-100 (NLLB): one class of layers, each with its own quirks."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, Fields, Part, Weight, layers
from transformer_zoo.zoo.huggingface.parts import (
    ENCODER_DECODER,
    SHARED_OR_NOT,
    encoder_and_decoder,
    translation_ids,
)

_BOTH = {
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "attn.out_proj": "self_attn.out_proj",
    "attn_norm": "self_attn_layer_norm",
    "ffn.up_proj": "fc1",
    "ffn.down_proj": "fc2",
    "ffn_norm": "final_layer_norm",
}
_CROSS = {
    "cross_attn.q_proj": "encoder_attn.q_proj",
    "cross_attn.k_proj": "encoder_attn.k_proj",
    "cross_attn.v_proj": "encoder_attn.v_proj",
    "cross_attn.out_proj": "encoder_attn.out_proj",
    "cross_attn_norm": "encoder_attn_layer_norm",
}

# Fields of BartConfig as it was when these four were one class: transformers 5 reads none of them any more.
_OLD = (
    "normalize_before", "normalize_embedding", "add_final_layer_norm", "add_bias_logits", "static_position_embeddings",
    "extra_pos_embeddings", "do_blenderbot_90_layernorm", "encoder_layerdrop", "decoder_layerdrop",
    "replacing_rate", "save_step", "student_encoder_layers", "student_decoder_layers", "kobart_version",
)  # fmt: skip

BART = Family(
    model_type="bart",
    architecture="BartForConditionalGeneration",
    config=EncoderDecoderConfig,
    fields={
        "vocab_size": Field("vocab_size", 50265),
        "d_model": Field("d_model", 1024),
        **encoder_and_decoder(16, 4096, 12),
        "max_seq_len": Field("max_position_embeddings", 1024),
        "activation": Field("activation_function", "gelu", ACTIVATIONS),
        "scale_embeddings": Field("scale_embedding", False),
        "dropout": Field("dropout", 0.1),
        "attention_dropout": Field("attention_dropout", 0.0),
        "activation_dropout": Field("activation_dropout", 0.0),
    },
    parts=(SHARED_OR_NOT, translation_ids(start=2, bos=0, eos=2, pad=1)),
    constants={
        "norm_position": "post",
        "embedding_norm": True,
        "positions": "learned",
        "position_offset": 2,
        "logit_bias": True,
    },
    required=ENCODER_DECODER,
    ignored=_OLD,
    aliases={
        "num_attention_heads": "encoder_attention_heads",
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
    },
    weights={
        "embedding": "model.shared",
        "source_embedding": "model.encoder.embed_tokens",
        "target_embedding": "model.decoder.embed_tokens",
        "encoder.positions": "model.encoder.embed_positions",
        "encoder.embedding_norm": "model.encoder.layernorm_embedding",
        **layers("encoder.layers.{i}", "model.encoder.layers.{i}", _BOTH),
        "encoder.final_norm": "model.encoder.layer_norm",
        "decoder.positions": "model.decoder.embed_positions",
        "decoder.embedding_norm": "model.decoder.layernorm_embedding",
        **layers("decoder.layers.{i}", "model.decoder.layers.{i}", {**_BOTH, **_CROSS}),
        "decoder.final_norm": "model.decoder.layer_norm",
        "head": "lm_head",
        "logit_bias": Weight("final_logits_bias", row=True),
    },
    prefix="model.",
    unused=("model.encoder.version", "model.decoder.version"),
    spare_embedding="model.shared",
)
"""Lewis et al. 2020."""

MBART = replace(
    BART,
    model_type="mbart",
    architecture="MBartForConditionalGeneration",
    parts=(SHARED_OR_NOT, translation_ids(start=None, bos=0, eos=2, pad=1)),
    constants={**BART.constants, "norm_position": "pre"},
)
"""Liu et al. 2020; its targets start with the tag of a language."""


def _read_sharing(theirs: Fields, ours: Fields) -> dict[str, Any]:
    source = ours["vocab_size"]
    target = theirs.get("decoder_vocab_size") or source
    shared = theirs.get("share_encoder_decoder_embeddings", True)
    if shared and target != source:
        raise UserError(
            f"config.json: share_encoder_decoder_embeddings, but vocab_size is {source} and decoder_vocab_size {target}"
        )
    tied = theirs.get("tie_word_embeddings", True)
    share = ("all" if shared else "decoder") if tied else "none"
    return {"share_embeddings": share, "target_vocab_size": None if target == source else target}


def _write_sharing(config: EncoderDecoderConfig) -> dict[str, Any]:
    return {
        "decoder_vocab_size": config.target_size,
        "share_encoder_decoder_embeddings": config.share_embeddings == "all",
        "tie_word_embeddings": config.share_embeddings != "none",
    }


MARIAN = replace(
    BART,
    model_type="marian",
    architecture="MarianMTModel",
    fields={**BART.fields, "vocab_size": Field("vocab_size", 58101)},
    parts=(
        Part(
            {"decoder_vocab_size": int, "share_encoder_decoder_embeddings": bool, "tie_word_embeddings": bool},
            _read_sharing,
            _write_sharing,
        ),
        translation_ids(start=58100, bos=None, eos=0, pad=58100),
    ),
    constants={"norm_position": "post", "positions": "sinusoidal", "sinusoid_layout": "halves", "logit_bias": True},
    spare_embedding=None,
)
"""Junczys-Dowmunt et al. 2018."""


def _read_first_place(theirs: Fields, ours: Fields) -> dict[str, Any]:
    if ours["bos_id"] == ours["pad_id"]:
        raise UserError(
            "config.json: decoder_start_token_id is pad_token_id, to which m2m_100 gives no place: not supported"
        )
    return {"position_offset": ours["pad_id"] + 1}


M2M_100 = replace(
    BART,
    model_type="m2m_100",
    architecture="M2M100ForConditionalGeneration",
    fields={
        **BART.fields,
        "vocab_size": Field("vocab_size", 128112),
        "activation": Field("activation_function", "relu", ACTIVATIONS),
        "scale_embeddings": Field("scale_embedding", True),
        "attention_dropout": Field("attention_dropout", 0.1),
    },
    parts=(
        SHARED_OR_NOT,
        translation_ids(start=2, bos=0, eos=2, pad=1),
        Part({}, _read_first_place, lambda config: {}),
    ),
    constants={
        "norm_position": "pre",
        "positions": "sinusoidal",
        "sinusoid_layout": "halves_inclusive",
        "count_padding": False,
    },
    unused=(*BART.unused, "model.encoder.embed_positions.weights", "model.decoder.embed_positions.weights"),
)
"""Fan et al. 2021; NLLB is NLLB Team 2022."""

FAMILIES = (MARIAN, BART, MBART, M2M_100)
