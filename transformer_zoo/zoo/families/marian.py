"""Marian's models: OPUS-MT (Junczys-Dowmunt et al. 2018)."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import EncoderDecoderConfig, SinusoidalSpec
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families.bart import BART
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part
from transformer_zoo.zoo.huggingface.parts import translation_ids


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
    constants={"norm_position": "post", "positions": SinusoidalSpec(layout="halves"), "logit_bias": True},
    sizes={
        # Tiedemann and Thottingal 2020, "OPUS-MT: Building open translation services for the World". The shape of all
        # its bilingual models; vocabulary and ids are English-German's (Helsinki-NLP/opus-mt-en-de), and every pair has
        # its own. A target starts with pad.
        "opus-mt": {
            "vocab_size": 58101, "max_seq_len": 512, "activation": "silu", "pad_id": 58100, "bos_id": 58100,
            "eos_id": 0, "forced_last_id": 0,
        },
        # Tiedemann 2020, "The Tatoeba Translation Challenge": the "transformer-big" models, opus-mt-tc-big on the hub.
        # Vocabulary and ids are those of opus-mt-tc-big-fr-en.
        "opus-mt-big": {
            "vocab_size": 53017, "d_model": 1024, "n_heads": 16, "d_ff": 4096, "pad_id": 53016, "bos_id": 53016,
            "eos_id": 43311, "forced_last_id": 0,
        },
    },
    fields={**BART.fields, "vocab_size": Field("vocab_size", 58101)},
    parts=(
        Part(
            {"decoder_vocab_size": int, "share_encoder_decoder_embeddings": bool, "tie_word_embeddings": bool},
            _read_sharing,
            _write_sharing,
            limits=("share_encoder_decoder_embeddings",),
        ),
        translation_ids(start=58100, bos=None, eos=0, pad=58100),
    ),
    spare_embedding=None,
)  # fmt: skip
"""Junczys-Dowmunt et al. 2018."""

FAMILIES = (MARIAN,)
