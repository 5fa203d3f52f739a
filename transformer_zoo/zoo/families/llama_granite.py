"""Granite 3: Llama with its own factors of embeddings, scores, sublayers' outputs and logits.

A plain Llama is exported as Llama, whose file comes before this one.
"""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.family import Fields, Part
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY

_NUMBERS = ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")


def _read_numbers(theirs: Fields, ours: Fields) -> dict[str, Any]:
    """A factor of 1 means none, except for scores."""
    embeddings, scores, added, logits = (float(theirs.get(name, 1.0)) for name in _NUMBERS)
    return {
        "scale_embeddings": False if embeddings == 1 else embeddings,
        "attention.scale": scores,
        "residual_scale": None if added == 1 else added,
        "logit_scale": None if logits == 1 else 1 / logits,
    }


def _write_numbers(config: DecoderConfig) -> dict[str, Any]:
    scale = config.scale_embeddings
    embeddings = {True: config.d_model**0.5, False: 1.0}[scale] if isinstance(scale, bool) else scale
    attention = config.decoder.layers[0].attention
    scores = getattr(attention, "scale", None) or attention.width(config.d_model) ** -0.5
    numbers = embeddings, scores, config.decoder.residual_scale or 1.0, 1 / config.logit_factor
    return dict(zip(_NUMBERS, numbers, strict=True))


# IBM 2024, "Granite 3.0 Language Models"; ibm-granite/granite-3.3-2b-base and -8b-base.
_2B = {
    "vocab_size": 49159, "d_model": 2048, "n_heads": 32, "n_kv_heads": 8, "d_ff": 8192, "n_layers": 40,
    "max_seq_len": 131072, "positions.base": 10000000.0, "norm.eps": 1e-5, "attention.scale": 0.015625,
    "scale_embeddings": 12.0, "residual_scale": 0.22, "logit_scale": 0.125, "tie_embeddings": True, "bos_id": 0,
    "eos_id": 0, "pad_id": 0,
}  # fmt: skip

GRANITE = replace(
    LLAMA,
    model_type="granite",
    architecture="GraniteForCausalLM",
    sizes={
        "granite-3.3-2b": _2B,
        "granite-3.3-8b": {
            **_2B, "d_model": 4096, "d_ff": 12800, "attention.scale": 0.0078125, "logit_scale": 0.0625,
        },
    },
    parts=(*LLAMA.parts, Part(dict.fromkeys(_NUMBERS, float), _read_numbers, _write_numbers)),
    required=TEXT_ONLY,
    ignored=(),
)  # fmt: skip
"""IBM 2024, "Granite 3.0 Language Models"."""

FAMILIES = (GRANITE,)
