"""RoBERTa and XLM-R."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import EncoderConfig
from transformer_zoo.zoo.families.bert import BERT, LAYER, POOLER
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, layers
from transformer_zoo.zoo.huggingface.heads import heads


def _read_places(theirs: Fields, ours: Fields) -> dict[str, Any]:
    """The first token's position comes after pad's id; the table has unused rows before it."""
    offset = ours["pad_id"] + 1
    return {"positions.offset": offset, "max_seq_len": theirs.get("max_position_embeddings", 512) - offset}


def _write_places(config: EncoderConfig) -> dict[str, Any]:
    return {"max_position_embeddings": config.max_seq_len + config.pad_id + 1}


_SHAPE = {
    "max_seq_len": 512, "positions.offset": 2, "pad_id": 1, "n_segments": 1, "norm.eps": 1e-5,
    "n_layers": 12, "d_model": 768, "n_heads": 12, "d_ff": 3072,
}  # fmt: skip
_LARGE = {**_SHAPE, "n_layers": 24, "d_model": 1024, "n_heads": 16, "d_ff": 4096}
_WORDS = {"vocab_size": 50265, "mask_id": 50264}
_OF_MANY = {"vocab_size": 250002, "mask_id": 250001}

ROBERTA = replace(
    BERT,
    model_type="roberta",
    architecture="RobertaForMaskedLM",
    sizes={
        # Liu et al. 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach", section 2.
        "roberta-base": {**_WORDS, **_SHAPE},
        "roberta-large": {**_WORDS, **_LARGE},
        "distilroberta-base": {**_WORDS, **_SHAPE, "n_layers": 6},
    },
    fields={
        **{ours: field for ours, field in BERT.fields.items() if ours != "max_seq_len"},
        "vocab_size": Field("vocab_size", 50265),
        "pad_id": Field("pad_token_id", 1),
    },
    parts=(
        heads("Roberta", words="gelu", texts=POOLER),
        Part({"max_position_embeddings": int}, _read_places, _write_places),
    ),
    weights={
        "embedding": "roberta.embeddings.word_embeddings",
        "segments": "roberta.embeddings.token_type_embeddings",
        "encoder.positions": "roberta.embeddings.position_embeddings",
        "encoder.embedding_norm": "roberta.embeddings.LayerNorm",
        **layers("encoder.layers.{i}", "roberta.encoder.layer.{i}", LAYER),
        "word_head.proj": "lm_head.dense",
        "word_head.norm": "lm_head.layer_norm",
        "head": "lm_head.decoder",
        "logit_bias": "lm_head.decoder.bias",
        "text_head.projection.proj": "classifier.dense",
        "text_head.out_proj": "classifier.out_proj",
        "token_head.out_proj": "classifier",
    },
    ignored=(*BERT.ignored, "name"),
    prefix="roberta.",
    renamed={"lm_head.bias": "lm_head.decoder.bias"},
    unused=(
        *("roberta.embeddings.position_ids", "lm_head.bias"),
        *("roberta.pooler.dense.weight", "roberta.pooler.dense.bias"),
    ),
)
"""Liu et al. 2019."""

XLM_ROBERTA = replace(
    ROBERTA,
    model_type="xlm-roberta",
    architecture="XLMRobertaForMaskedLM",
    sizes={
        # Conneau et al. 2020, "Unsupervised Cross-lingual Representation Learning at Scale", section 3.
        "xlm-roberta-base": {**_OF_MANY, **_SHAPE},
        "xlm-roberta-large": {**_OF_MANY, **_LARGE},
    },
    fields={**ROBERTA.fields, "vocab_size": Field("vocab_size", 30522)},
    parts=(heads("XLMRoberta", words="gelu", texts=POOLER), *ROBERTA.parts[1:]),
)
"""Conneau et al. 2020."""

FAMILIES = (ROBERTA, XLM_ROBERTA)
