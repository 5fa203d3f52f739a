"""ELECTRA's generators, which guess masked words, and its discriminators without their head."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import EncoderConfig, ProjectionSpec
from transformer_zoo.zoo.families.bert import BERT, LAYER
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, layers
from transformer_zoo.zoo.huggingface.heads import heads


def _read_width(theirs: Fields, ours: Fields) -> dict[str, Any]:
    width = theirs.get("embedding_size", 128)
    return {"d_embedding": None if width == ours["d_model"] else width}


def _write_width(config: EncoderConfig) -> dict[str, Any]:
    return {"embedding_size": config.d_embedding or config.d_model}


def _shape(
    d_embedding: int | None, n_layers: int, d_model: int, d_ff: int, n_heads: int, **more: Any
) -> dict[str, Any]:
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "d_ff": d_ff, "d_embedding": d_embedding}
    return {"vocab_size": 30522, "mask_id": 103, **shape, **more}


_JUDGE = ("dense", "dense_prediction")

ELECTRA = replace(
    BERT,
    model_type="electra",
    architecture="ElectraForMaskedLM",
    sizes={
        # Clark et al. 2020, "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", Table 6.
        "electra-small-generator": _shape(128, 12, 256, 1024, 4),
        "electra-base-generator": _shape(768, 12, 256, 1024, 4),
        "electra-large-generator": _shape(1024, 24, 256, 1024, 4),
        "electra-small": _shape(128, 12, 256, 1024, 4, head="none"),
        "electra-base": _shape(None, 12, 768, 3072, 12, head="none"),
        "electra-large": _shape(None, 24, 1024, 4096, 16, head="none"),
    },
    fields={
        **BERT.fields,
        "d_model": Field("hidden_size", 256),
        "n_heads": Field("num_attention_heads", 4),
        "d_ff": Field("intermediate_size", 1024),
    },
    parts=(
        heads("Electra", words="gelu", texts=ProjectionSpec(activation="gelu")),
        Part({"embedding_size": int}, _read_width, _write_width),
    ),
    ignored=(*BERT.ignored, "summary_use_proj", "summary_activation", "summary_last_dropout"),
    weights={
        "embedding": "electra.embeddings.word_embeddings",
        "segments": "electra.embeddings.token_type_embeddings",
        "encoder.positions": "electra.embeddings.position_embeddings",
        "encoder.embedding_norm": "electra.embeddings.LayerNorm",
        "encoder.embedding_proj": "electra.embeddings_project",
        **layers("encoder.layers.{i}", "electra.encoder.layer.{i}", LAYER),
        "word_head.proj": "generator_predictions.dense",
        "word_head.norm": "generator_predictions.LayerNorm",
        "head": "generator_lm_head",
        "logit_bias": "generator_lm_head.bias",
        "text_head.projection.proj": "classifier.dense",
        "text_head.out_proj": "classifier.out_proj",
        "token_head.out_proj": "classifier",
    },
    prefix="electra.",
    # A discriminator's head says for each token whether it is the original one.
    unused=(
        "electra.embeddings.position_ids",
        *(f"discriminator_predictions.{name}.{kind}" for name in _JUDGE for kind in ("weight", "bias")),
    ),
)
"""Clark et al. 2020."""

FAMILIES = (ELECTRA,)
