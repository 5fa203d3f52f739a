"""Which fields of two configurations differ in what they compute."""

import math
from typing import Any

from transformer_zoo.blocks import YarnScaling
from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig
from transformer_zoo.zoo.huggingface.family import Config, spelled_out

# They change training only, or how a model starts, or are the business of the tokenizer.
_NO_MATTER = {
    "dropout", "attention_dropout", "activation_dropout", "init", "zero_pad", "ngram_rows", "source_end_id",
}  # fmt: skip
_ROTARY = ("rotary_base", "rotary_dim", "rotary_layout", "rotary_scaling")
_SCALING = {
    "none": (),
    "linear": ("rotary_factor",),
    "llama3": (
        "rotary_factor", "rotary_low_freq_factor", "rotary_high_freq_factor", "rotary_original_max_seq_len",
    ),
    "yarn": (
        "rotary_factor", "rotary_original_max_seq_len", "rotary_beta_fast", "rotary_beta_slow", "rotary_truncate",
        "rotary_attention_factor",
    ),
}  # fmt: skip
_USED_BY = {
    "sinusoidal": ("sinusoid_layout", "position_offset", "count_padding"),
    "learned": ("max_seq_len", "position_offset", "count_padding"),
    "rotary": _ROTARY,
    "alibi": (),
    "relative": ("relative_buckets", "relative_max_distance"),
    "none": (),
}
"""Fields of each kind of positions."""


def spelling(config: Config) -> dict[str, Any]:
    """The fields that decide what a model computes, each in one way; those that change nothing are left out."""
    kinds = {name for names in _USED_BY.values() for name in names} | {
        name for names in _SCALING.values() for name in names
    }
    used = {*_USED_BY[config.positions], *(_SCALING[config.rotary_scaling] if config.positions == "rotary" else ())}
    fields = {
        name: spelled_out(config, name)
        for name in config.to_dict()
        if name not in _NO_MATTER and (name not in kinds or name in used)
    }
    head_dim = spelled_out(config, "head_dim")
    fields["final_norm"] = config.ends_in_norm
    fields["attention_scale"] = config.attention_scale or head_dim**-0.5
    fields["logit_scale"] = config.logit_scale or 1.0
    if "rotary_dim" in fields:
        fields["rotary_dim"] = config.rotary_dim or head_dim
    if fields.get("rotary_attention_factor", 0.0) is None:
        fields["rotary_attention_factor"] = YarnScaling(config.rotary_factor, config.rotary_original_max_seq_len).growth
    if config.norm == "rmsnorm":
        fields["norm_bias"], fields["norm_affine"] = False, True
    elif not config.norm_affine:
        fields["norm_bias"] = False
    if isinstance(config, DecoderConfig):
        _spell_window(fields, config)
        del fields["pad_id"]
    else:
        _spell_decoder(fields, config)
    return fields


def _spell_window(fields: dict[str, Any], config: DecoderConfig) -> None:
    windowed = range(config.n_layers) if config.windowed_layers is None else sorted(set(config.windowed_layers))
    has_window = config.sliding_window is not None and len(windowed) > 0
    fields["windowed_layers"] = tuple(windowed) if has_window else ()
    fields["sliding_window"] = config.sliding_window if has_window else None


def _spell_decoder(fields: dict[str, Any], config: EncoderDecoderConfig) -> None:
    """What follows from the heads may differ between encoder and decoder."""
    heads = config.n_heads, config.n_decoder_heads or config.n_heads
    widths = [config.head_dim or config.d_model // n for n in heads]
    fields["n_kv_heads"] = [config.n_kv_heads or n for n in heads]
    fields["head_dim"] = widths
    fields["attention_scale"] = [config.attention_scale or width**-0.5 for width in widths]
    fields["target_vocab_size"] = config.target_size


def differences(ours: Config, theirs: Config) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, and both values. A bias that only theirs has is zero: it is no difference."""
    a, b = spelling(ours), spelling(theirs)
    return {
        name: (a.get(name), b.get(name))
        for name in {**a, **b}
        if not _same(a.get(name), b.get(name)) and not (name in ZERO_FILLED and b.get(name) is True)
    }


ZERO_FILLED = ("bias", "qkv_bias", "ffn_bias", "norm_bias", "logit_bias")
"""Where theirs has a vector to add and ours does not, theirs is zero."""


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float | int) and not isinstance(b, bool):
        return math.isclose(a, b, rel_tol=1e-9)
    return bool(a == b)
