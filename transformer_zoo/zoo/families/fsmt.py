"""FSMT: fairseq's translators, those of WMT19 among them."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import EncoderDecoderConfig, SinusoidalSpec
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families.bart import BART
from transformer_zoo.zoo.families.m2m import PLACE_AFTER_PAD
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part
from transformer_zoo.zoo.huggingface.parts import translation_ids


def _read_sharing(theirs: Fields, ours: Fields) -> dict[str, Any]:
    target, tied = theirs.get("tgt_vocab_size", 42024), theirs.get("tie_word_embeddings", False)
    if tied and target != ours["vocab_size"]:
        raise UserError(
            f"config.json: tie_word_embeddings, but src_vocab_size is {ours['vocab_size']} and tgt_vocab_size {target}"
        )
    share = "all" if tied else "none"
    return {"share_embeddings": share, "target_vocab_size": None if target == ours["vocab_size"] else target}


def _write_sharing(config: EncoderDecoderConfig) -> dict[str, Any]:
    return {"tgt_vocab_size": config.target_size, "tie_word_embeddings": config.share_embeddings == "all"}


_WMT19 = {
    "d_model": 1024, "n_heads": 16, "encoder.layer.ffn.d_ff": 8192, "decoder.layer.ffn.d_ff": 4096, "n_layers": 6,
    "dropout": 0.2, "attention_dropout": 0.1, "positions.offset": 2, "pad_id": 1, "bos_id": 2, "eos_id": 2,
    "never_ids": (),
}  # fmt: skip

FSMT = replace(
    BART,
    model_type="fsmt",
    architecture="FSMTForConditionalGeneration",
    constants={
        "norm_position": "post",
        "positions": SinusoidalSpec(layout="halves_inclusive"),
        "count_padding": False,
    },
    # Ng et al. 2019, "Facebook FAIR's WMT19 News Translation Task Submission", section 3.
    sizes={
        "wmt19-en-de": {"vocab_size": 42024, **_WMT19},
        "wmt19-de-en": {"vocab_size": 42024, **_WMT19},
        "wmt19-en-ru": {"vocab_size": 31640, "target_vocab_size": 31232, "share_embeddings": "none", **_WMT19},
        "wmt19-ru-en": {"vocab_size": 31232, "target_vocab_size": 31640, "share_embeddings": "none", **_WMT19},
    },
    fields={
        **BART.fields,
        "vocab_size": Field("src_vocab_size", 42024),
        "activation": Field("activation_function", "relu", ACTIVATIONS),
        "scale_embeddings": Field("scale_embedding", True),
    },
    parts=(
        Part(
            {"tgt_vocab_size": int, "tie_word_embeddings": bool},
            _read_sharing,
            _write_sharing,
            limits=("tie_word_embeddings",),
        ),
        translation_ids(start=2, bos=0, eos=2, pad=1),
        PLACE_AFTER_PAD,
    ),
    ignored=(*BART.ignored, "langs", "decoder"),
    aliases={**BART.aliases, "vocab_size": "tgt_vocab_size"},
    weights={
        **BART.weights,
        "embedding": "model.decoder.embed_tokens",
        "head": "model.decoder.output_projection",
    },
    spare_embedding=None,
    has_waves=True,
)
"""Ng et al. 2019. `transformers` takes a model's several tokens at once as causal only with use_cache=False."""

FAMILIES = (FSMT,)
