"""BERT, and small ones: encoders alone, to be trained here."""

from typing import Any

from transformer_zoo.config import EncoderConfig
from transformer_zoo.zoo.huggingface.family import Family


def _shape(n_layers: int, d_model: int) -> dict[str, Any]:
    return {"n_layers": n_layers, "d_model": d_model, "n_heads": d_model // 64, "d_ff": 4 * d_model}


_WORDS = {"vocab_size": 30522, "mask_id": 103, "norm.eps": 1e-12}

BERT = Family(
    config=EncoderConfig,
    sizes={
        # Turc et al. 2019, "Well-Read Students Learn Better", Table 1.
        "bert-tiny": {**_WORDS, **_shape(2, 128)},
        "bert-mini": {**_WORDS, **_shape(4, 256)},
        "bert-small": {**_WORDS, **_shape(4, 512)},
        "bert-medium": {**_WORDS, **_shape(8, 512)},
        # Devlin et al. 2019, section 3.
        "bert-base": {**_WORDS, **_shape(12, 768)},
        "bert-large": {**_WORDS, **_shape(24, 1024)},
    },
)
"""Without what tells two sentences of one text apart: segments, and the prediction of whether one follows the other."""

FAMILIES = (BERT,)
