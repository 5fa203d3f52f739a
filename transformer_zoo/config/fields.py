"""Fields of configurations: which there are, and what they may be."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

from transformer_zoo.errors import UserError

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


def check_field_names(cls: type, values: Mapping[str, Any], *, partial: bool = False) -> None:
    """Refuse keys of `values` that are no field of the dataclass `cls`, and, unless `partial`, missing ones."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(set(values) - set(fields)):
        raise UserError(
            f"{cls.__name__} has no field {', '.join(map(repr, unknown))}; its fields are {', '.join(fields)}"
        )
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
    expected = allowed.__name__ if isinstance(allowed, type) else allowed
    if isinstance(value, bool) and bool not in types:
        raise UserError(f"{where} is {value!r}, expected {expected}")
    if tuple[int, ...] in types:
        if value is not None and not (isinstance(value, tuple) and all(type(i) is int and i >= 0 for i in value)):
            raise UserError(f"{where} is {value!r}, expected whole numbers from 0")
        return
    if not isinstance(value, (allowed | int) if is_float else allowed):
        raise UserError(f"{where} is {value!r}, expected {expected}")
    if value is None:
        return
    if field.name in CHOICES and value not in CHOICES[field.name]:
        raise UserError(f"{where} is {value!r}, expected one of {', '.join(CHOICES[field.name])}")
    if field.name in PROBABILITIES and not 0 <= value < 1:
        raise UserError(f"{where} is {value!r}, expected a probability from 0 up to, not including, 1")
    if is_float and field.name not in PROBABILITIES and not value > 0:
        raise UserError(f"{where} is {value!r}, expected a number above 0")
    if not is_float and type(value) is int and not field.name.endswith("_id"):
        least = 0 if field.name == "position_offset" else 1
        if value < least:
            raise UserError(f"{where} is {value}, expected at least {least}")
