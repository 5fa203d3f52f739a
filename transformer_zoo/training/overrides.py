"""Options for the fields of a model. The configuration gives types and docs; the preset gives the default values."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args

from transformer_zoo.config import ModelConfig
from transformer_zoo.config.changes import SHORT, hint_of, short_names
from transformer_zoo.config.spec import choices_of, kinds_of
from transformer_zoo.errors import UserError
from transformer_zoo.lent import dataclass_of, described
from transformer_zoo.words import AS_PRESET

Config = TypeVar("Config", bound=ModelConfig)

PROBABILITIES = ("dropout", "attention_dropout", "activation_dropout")
Hints = dict[str, tuple[Any, str]]
"""The fields of options: their types and descriptions."""


def overrides_of(
    *configs: type[ModelConfig], preset: str | None = None, skip: Sequence[str] = (), nested: bool = True
) -> Any:
    """A dataclass of the options of a model; "preset" means the preset's value. `overridden` returns the given ones.

    The options are typed and documented without listing a configuration's fields a second time. They are the model's
    own fields, the short names of others (`config.SHORT`), and, if `nested`, a section with all fields of each part.
    The preset's name can be a field too, and so can a model to start from instead.
    """
    hints: Hints = {}
    if preset is not None:
        hints["preset"] = str, "Name of an architecture in the zoo."
        hints["init_from"] = (
            str | None,
            "Start from this model, with its tokenizer: a run trained here or imported, a folder in Hugging Face's "
            "format, or a name on its hub. Only dropouts can be given with it (for a model of plain text also "
            "max_seq_len), and nothing that changes the tokenizer.",
        )
    for config in configs:
        own = _fields_of([config])
        hints |= {name: hint for name, hint in own.items() if not kinds_of(hint[0])}
        hints |= {name: _short(config, name) for name in short_names(config)}
        hints |= {name: hint for name, hint in own.items() if nested and kinds_of(hint[0])}
    kept = {name: hint for name, hint in hints.items() if name not in skip}
    return _section("ModelOverrides", "Model.", kept, {"preset": preset, "init_from": None})


def _fields_of(specs: Iterable[Any]) -> Hints:
    """All fields of these dataclasses, by name. A subclass's own description comes last and counts."""
    return {name: (hint, described(spec).get(name, "")) for spec in specs for name, hint in spec.hints().items()}


def _short(config: type[ModelConfig], name: str) -> tuple[Any, str]:
    hint, place = hint_of(config, name), " and ".join(SHORT[name]).replace("*.", "")
    return (_kinds(hint) if kinds_of(hint) else hint), f"Short for {place} in every stack."


def _kinds(hint: Any) -> Any:
    """A word for each kind of spec that a field may have."""
    none = ["none"] if type(None) in get_args(hint) else []
    return Literal[tuple([*kinds_of(hint), *choices_of(hint), *none])]


def _section(title: str, about: str, hints: Hints, defaults: Mapping[str, Any]) -> Any:
    """A dataclass whose fields are all optional; fields with specs are sections of their own."""
    fields: dict[str, tuple[Any, Any, str]] = {}
    for name, (hint, said) in hints.items():
        if name in defaults:
            fields[name] = hint, defaults[name], said
        elif specs := kinds_of(hint):
            kinds = _kinds(hint)
            inside: Hints = {"kind": (kinds, "Which of these it is.")} if len(get_args(kinds)) > 1 else {}
            inside |= _fields_of(specs.values())
            made = _section(f"{title}{name.title()}", said or "Part of a model.", inside, {})
            fields[name] = made, dataclasses.field(default_factory=made), said
        else:
            fields[name] = hint | Literal["preset"], AS_PRESET, said
    return dataclass_of(title, about, fields)


def overridden(overrides: Any, prefix: str = "") -> dict[str, Any]:
    """The given fields of a configuration, by their address. None is a value like any other."""
    found: dict[str, Any] = {}
    for name, value in vars(overrides).items():
        if dataclasses.is_dataclass(value):
            found |= overridden(value, f"{prefix}{name}.")
        elif name not in ("preset", "init_from") and value != AS_PRESET:
            found[prefix + name] = value
    return found


def check_init_from(model: Any, tokenizer: Any, *, of_model: Sequence[str], of_tokenizer: Sequence[str] = ()) -> None:
    """With `model.init_from` a recipe's sections `model` and `tokenizer` may give only the fields named here.

    Raises:
        UserError: they give another field, which would have no effect.
    """
    if model.init_from is None:
        return
    for section, fields, free in (("model", model, of_model), ("tokenizer", tokenizer, of_tokenizer)):
        usual, but = type(fields)(), f" but for {', '.join(free)}" if free else ""
        for name in (field.name for field in dataclasses.fields(fields)):
            if name not in ("init_from", *free) and getattr(fields, name) != getattr(usual, name):
                raise UserError(f"{section}.{name}: model.init_from keeps the {section} as it is{but}; leave it out")


def keep_config(config: Config, model: Any, names: Sequence[str] = PROBABILITIES) -> Config:
    """The configuration with the fields `names` of a recipe's section `model`, if they are given."""
    return config.changed(**{name: value for name, value in overridden(model).items() if name in names})
