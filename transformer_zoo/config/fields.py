"""Fields of configurations: which there are, and what they may be."""

import dataclasses
import math
from collections.abc import Container, Mapping, Sequence
from typing import Any, get_args

from transformer_zoo.errors import UserError
from transformer_zoo.words import did_you_mean, expected

CHOICES: dict[str, tuple[str, ...]] = {
    "activation": (
        "relu",
        "relu_squared",
        "gelu",
        "gelu_tanh",
        "quick_gelu",
        "silu",
        "mish",
        "hardswish",
        "relu6",
        "leaky_relu",
        "sigmoid",
        "tanh",
    ),
    "norm": ("layernorm", "rmsnorm"),
    "norm_position": ("post", "pre", "both", "parallel", "pre_carried"),
    "positions": ("sinusoidal", "learned", "rotary", "alibi", "relative", "none"),
    "sinusoid_layout": ("interleaved", "halves", "halves_inclusive"),
    "rotary_layout": ("halves", "interleaved"),
    "rotary_scaling": ("none", "linear", "llama3", "yarn"),
    "share_embeddings": ("all", "inputs", "decoder", "none"),
    "init": ("gpt2", "zero_out"),
}
PROBABILITIES = ("dropout", "attention_dropout", "activation_dropout")

MOST, MOST_LAYERS = 2**31 - 1, 10_000
"""Of whole numbers: what a kernel can index, and more layers than a computer will ever be asked to put together."""

Effects = Mapping[str, Mapping[str, Container[Any]]]
"""Field -> for each other field that can take its effect away, the values that do."""


def all_but(choices: Sequence[str], *names: str) -> tuple[str, ...]:
    """The choices without these."""
    return tuple(choice for choice in choices if choice not in names)


_ROTARY = {"positions": all_but(CHOICES["positions"], "rotary")}
_RELATIVE = {"positions": all_but(CHOICES["positions"], "relative")}
_ADDED = {"positions": all_but(CHOICES["positions"], "learned", "sinusoidal")}
_SCALED, _LLAMA3, _YARN, _LONG = (
    {**_ROTARY, "rotary_scaling": all_but(CHOICES["rotary_scaling"], *names)}
    for names in (("linear", "llama3", "yarn"), ("llama3",), ("yarn",), ("llama3", "yarn"))
)
WITHOUT_EFFECT: Effects = {
    "norm_unit_offset": {"norm": ("layernorm",)},
    "norm_affine": {"norm": ("rmsnorm",)},
    "norm_bias": {"norm": ("rmsnorm",), "norm_affine": (False,)},
    "windowed_layers": {"sliding_window": (None,)},
    "sliding_window": {"windowed_layers": ((),)},
    "count_padding": {"positions": ("none",)},
    "position_offset": _ADDED,
    "sinusoid_layout": {"positions": all_but(CHOICES["positions"], "sinusoidal")},
    "relative_buckets": _RELATIVE,
    "relative_max_distance": _RELATIVE,
    "rotary_base": _ROTARY,
    "rotary_dim": _ROTARY,
    "rotary_layout": _ROTARY,
    "rotary_scaling": _ROTARY,
    "rotary_factor": _SCALED,
    "rotary_low_freq_factor": _LLAMA3,
    "rotary_high_freq_factor": _LLAMA3,
    "rotary_original_max_seq_len": _LONG,
    "rotary_beta_fast": _YARN,
    "rotary_beta_slow": _YARN,
    "rotary_truncate": _YARN,
    "rotary_attention_factor": _YARN,
    "ngram_rows": {"ngrams": (1,)},
}
"""Of a model."""


def without_effect(values: Mapping[str, Any], effects: Effects, defaults: Mapping[str, Any]) -> dict[str, str]:
    """Each field that is not what it is by default and that another one has taken the effect of: that one's name."""
    return {
        name: other
        for name, others in effects.items()
        if name in values and values[name] != defaults.get(name)
        for other, values_of_other in others.items()
        if other in values and values[other] in values_of_other
    }


def refuse_without_effect(values: Mapping[str, Any], effects: Effects, defaults: Mapping[str, Any]) -> None:
    """Raises a UserError that names the first field of `without_effect`, if there is one."""
    for name, other in without_effect(values, effects, defaults).items():
        raise UserError(f"{name} is {values[name]}, and has no effect where {other} is {values[other]}: leave it out")


def defaults_of_fields(cls: type) -> dict[str, Any]:
    """The fields of a dataclass that have a default, with it."""
    return {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}


def check_field_names(cls: type, values: Mapping[str, Any], *, partial: bool = False) -> None:
    """Refuse keys of `values` that are no field of the dataclass `cls`, and, unless `partial`, missing ones."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(set(values) - set(fields), key=str):
        near = did_you_mean(str(unknown[0]), fields, f"; its fields are {', '.join(fields)}")
        raise UserError(f"{cls.__name__} has no field {', '.join(map(repr, unknown))}{near}")
    required = {
        n for n, f in fields.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if not partial and (missing := sorted(required - set(values))):
        raise UserError(f"{cls.__name__} needs the field {', '.join(map(repr, missing))}")


def check_field(owner: str, field: dataclasses.Field[Any], value: Any) -> None:
    """Type and range of one field; the types are plain ones, so their names in the annotation are enough."""
    where = f"{owner}.{field.name}"
    allowed: Any = field.type
    types = get_args(allowed) or (allowed,)
    is_float = float in types
    if isinstance(value, bool) and bool not in types:
        raise UserError(f"{where} is {value!r}, expected {expected(allowed)}")
    if tuple[int, ...] in types:
        if value is not None and not (isinstance(value, tuple) and all(type(i) is int and i >= 0 for i in value)):
            raise UserError(f"{where} is {value!r}, expected whole numbers from 0")
        return
    if not isinstance(value, (allowed | int) if is_float else allowed):
        raise UserError(f"{where} is {value!r}, expected {expected(allowed)}")
    if value is None:
        return
    if field.name in CHOICES and value not in CHOICES[field.name]:
        near = did_you_mean(str(value), CHOICES[field.name])
        raise UserError(f"{where} is {value!r}, expected one of {', '.join(CHOICES[field.name])}{near}")
    if field.name in PROBABILITIES and not 0 <= value < 1:
        raise UserError(f"{where} is {value!r}, expected a probability from 0 up to, not including, 1")
    if is_float and field.name not in PROBABILITIES and not 0 < value < math.inf:
        raise UserError(f"{where} is {value!r}, expected a number above 0")
    if not is_float and type(value) is int and not field.name.endswith("_id"):
        least = 0 if field.name == "position_offset" else 1
        most = MOST_LAYERS if field.name.endswith("_layers") else MOST
        if value < least:
            raise UserError(f"{where} is {value}, expected at least {least}")
        if value > most:
            raise UserError(f"{where} is {value}, expected at most {most:,}")
