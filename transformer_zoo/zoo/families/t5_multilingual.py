"""mT5 and umT5."""

from dataclasses import replace
from typing import Any, Literal

from transformer_zoo.config import EncoderDecoderConfig, RelativeSpec
from transformer_zoo.zoo.families.t5 import T5, V1_1, feed_forward
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part
from transformer_zoo.zoo.huggingface.parts import translation_ids


def _head(scale: Literal["d_model"] | None) -> Part:
    """Logits are scaled in all models or in none; tie_word_embeddings does not say which."""

    def read(theirs: Fields, ours: Fields) -> dict[str, Any]:
        tied = theirs.get("tie_word_embeddings", True) is not False
        return {"share_embeddings": "all" if tied else "inputs", "logit_scale": scale}

    def write(config: EncoderDecoderConfig) -> dict[str, Any]:
        return {"tie_word_embeddings": config.share_embeddings == "all"}

    return Part({"tie_word_embeddings": bool}, read, write)


def _parts(scale: Literal["d_model"] | None) -> tuple[Part, ...]:
    n_layers, dropout, *_ = T5.parts
    ids = translation_ids(start=0, bos=None, eos=1, pad=0)
    return n_layers, dropout, feed_forward("gated-gelu"), _head(scale), ids


MT5 = replace(
    T5,
    model_type="mt5",
    architecture="MT5ForConditionalGeneration",
    # Xue et al. 2020, "mT5: A massively multilingual pre-trained text-to-text transformer", and google/mt5-small, ...
    sizes={f"mt5-{size}": {**fields, "vocab_size": 250112} for size, fields in V1_1.items()},
    fields={
        **T5.fields,
        "vocab_size": Field("vocab_size", 250112),
        "n_heads": Field("num_heads", 6),
        "d_ff": Field("d_ff", 1024),
        "encoder.n_layers": Field("num_layers", 8),
    },
    parts=_parts(None),
)
"""Xue et al. 2021: T5 v1.1, whose logits are never scaled."""

UMT5 = replace(
    MT5,
    model_type="umt5",
    architecture="UMT5ForConditionalGeneration",
    constants={**MT5.constants, "positions": "none", "layer.positions": RelativeSpec()},
    # Chung et al. 2023, "UniMax: Fairer and more Effective Language Sampling for Large-Scale Multilingual Pretraining".
    sizes={
        f"umt5-{size}": {**V1_1[size], "vocab_size": 256384, "logit_scale": "d_model"}
        for size in ("small", "base", "xl", "xxl")
    },
    fields={name.replace("positions.", "layer.positions."): entry for name, entry in MT5.fields.items()},
    parts=_parts("d_model"),
    ignored=("scalable_attention",),
)
"""Chung et al. 2023: every layer has its own scores by distance. `transformers` 5 scales its logits, tied or not."""

FAMILIES = (MT5, UMT5)
