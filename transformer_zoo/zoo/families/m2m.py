"""M2M-100 and NLLB."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import SinusoidalSpec
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families.bart import BART
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part
from transformer_zoo.zoo.huggingface.parts import SHARED_OR_NOT, translation_ids


def _read_first_place(theirs: Fields, ours: Fields) -> dict[str, Any]:
    if ours["bos_id"] == ours["pad_id"]:
        raise UserError(
            "config.json: decoder_start_token_id is pad_token_id, which has no position in such a model: not supported"
        )
    return {"positions.offset": ours["pad_id"] + 1}


PLACE_AFTER_PAD = Part({}, _read_first_place, lambda config: {}, limits=("decoder_start_token_id",))
"""Positions begin after the id of pad, as in fairseq; pad has no position."""


_SHAPE = {
    "d_model": 1024, "n_heads": 16, "d_ff": 4096, "n_layers": 12, "attention_dropout": 0.1, "positions.offset": 2,
    "pad_id": 1, "bos_id": 2, "eos_id": 2, "never_ids": (),  # a target starts with bos and the tag of its language
}  # fmt: skip
_DEEP = {**_SHAPE, "d_ff": 8192, "n_layers": 24}

M2M_100 = replace(
    BART,
    model_type="m2m_100",
    architecture="M2M100ForConditionalGeneration",
    constants={
        "norm_position": "pre",
        "positions": SinusoidalSpec(layout="halves_inclusive"),
        "count_padding": False,
    },
    sizes={
        # Fan et al. 2020, "Beyond English-Centric Multilingual Machine Translation"; facebook/m2m100_418M and _1.2B.
        "m2m100-418m": {"vocab_size": 128112, **_SHAPE},
        "m2m100-1.2b": {"vocab_size": 128112, **_DEEP},
        # NLLB Team 2022, "No Language Left Behind: Scaling Human-Centered Machine Translation".
        "nllb-600m": {"vocab_size": 256206, **_SHAPE},
        "nllb-1.3b": {"vocab_size": 256206, **_DEEP},
        "nllb-3.3b": {"vocab_size": 256206, **_DEEP, "d_model": 2048},
    },
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
        PLACE_AFTER_PAD,
    ),
    unused=(*BART.unused, "model.encoder.embed_positions.weights", "model.decoder.embed_positions.weights"),
)
"""Fan et al. 2021; NLLB is NLLB Team 2022."""

FAMILIES = (M2M_100,)
