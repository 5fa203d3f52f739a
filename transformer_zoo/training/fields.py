"""The fields of a recipe as plain data: their allowed values, and the refusal of fields that have no effect."""

import dataclasses
import json
import math
from collections.abc import Container, Mapping
from typing import Any

from transformer_zoo.config import Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.words import ABOVE_0, COUNT, SHARE, Range, outside

Effects = Mapping[str, Mapping[str, Container[Any]]]
"""Field -> for each other field that can cancel its effect, the values that do."""
RANGES: dict[str, Range] = {
    "optimizer.lr": ABOVE_0, "optimizer.adam_lr": ABOVE_0, "optimizer.betas": SHARE, "optimizer.eps": ABOVE_0,
    "optimizer.momentum": SHARE, "optimizer.ns_steps": (1, 100, "[]"), "schedule.factor": ABOVE_0,
    "schedule.decay": COUNT, "schedule.final_ratio": (0, 1, "[]"), "training.batch_tokens": COUNT,
    "training.accumulate": COUNT, "training.max_updates": COUNT, "training.max_epochs": COUNT,
    "training.max_minutes": ABOVE_0, "training.ema_decay": SHARE, "training.log_every": COUNT,
    "training.label_smoothing": SHARE, "validation.every": COUNT, "validation.beam": (1, 1000, "[]"),
    "validation.samples": (0, 10_000, "[]"), "validation.sample_tokens": (1, 1_000_000, "[]"),
    "checkpoint.every": COUNT, "checkpoint.average_last": COUNT,
    "parallel.replicate": COUNT, "parallel.shard": COUNT, "parallel.tensor": COUNT,
    "test.length_penalty": (-math.inf, math.inf, "()"),
    "test.max_source_tokens": COUNT, "data.workers": (0, 1000, "[]"), "data.length": COUNT,
    "tokenizer.character_coverage": (0.98, 1, "[]"), "tokenizer.sample_alpha": (0, 1, "[]"),
    "tokenizer.training_characters": COUNT,
}  # fmt: skip
"""Ranges of the numbers in a recipe; other numbers are at least 0. A model's configuration checks its own."""

_MUON = {"optimizer.name": ("adam", "adamw")}
_SAMPLED = {"validation.samples": (0,)}
_WIDEST = "the wider of test.beam and validation.beam"
EFFECTS: Effects = {
    "optimizer.lr": {"schedule.name": ("noam",)},
    "optimizer.adam_lr": _MUON,
    "optimizer.momentum": _MUON,
    "optimizer.ns_steps": _MUON,
    "optimizer.weight_decay": {"optimizer.name": ("adam",)},
    "schedule.factor": {"schedule.name": ("inverse_sqrt", "constant", "linear", "cosine", "wsd")},
    "schedule.decay": {"schedule.name": ("noam", "inverse_sqrt", "constant", "linear", "cosine")},
    "schedule.final_ratio": {"schedule.name": ("noam", "inverse_sqrt", "constant")},
    "training.accumulate": {"training.update_tokens": range(1, 2**63)},
    "validation.prompt": _SAMPLED,
    "validation.sample_tokens": _SAMPLED,
    "validation.write_special": _SAMPLED,
    **{f"validation.{field.name}": _SAMPLED for field in dataclasses.fields(Sampling)},
    **{f"validation.{name}": {**_SAMPLED, "validation.temperature": (0,)} for name in ("top_k", "top_p", "min_p")},
    "test.length_penalty": {_WIDEST: (1,)},
    "test.penalty": {_WIDEST: (1,), "test.length_penalty": (0,)},
}
"""The condition under which a field of a recipe has no effect."""


def plain_fields(recipe: Any) -> dict[str, Any]:
    """All fields of a recipe in the form of JSON and YAML: a tuple here is a list there."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return plain


def defaults_of(recipe: type) -> dict[str, Any]:
    """The values of a recipe's fields that nobody gives, as plain data, without fields that must be given."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(recipe):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            found[field.name] = defaults_of(field.type)
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}, without fields that are None."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        elif value is not None:
            flat[f"{prefix}{name}"] = value
    return flat


def check_ranges(fields: Mapping[str, Any]) -> None:
    """Raise a UserError that names a number of a recipe that is out of its range; `fields` are flat."""
    for name, value in fields.items():
        limits = RANGES.get(name, (0, 2**63, "[)"))
        for number in value if isinstance(value, list | tuple) else (value,):
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            if is_number and not name.startswith("model.") and (wrong := outside(number, limits)):
                raise UserError(f"{name} is {number}, {wrong}")


def check_effects(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise a UserError that names a field that is given but has no effect; both arguments are flat."""
    widest = max(fields.get("test.beam", 1), fields.get("validation.beam", 1))
    values = {**fields, _WIDEST: widest}
    for name, others in EFFECTS.items():
        for other, values_of_other in others.items():
            is_given = name in values and values[name] != defaults.get(name)
            if is_given and other in values and values[other] in values_of_other:
                value = values[other]
                raise UserError(f"{name} is {values[name]}, and has no effect where {other} is {value}: leave it out")
