"""Options for the fields of a model, typed and documented by its configuration; by default as the preset has them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from transformer_zoo.config import CHOICES, PROBABILITIES, DecoderConfig, EncoderDecoderConfig
from transformer_zoo.errors import UserError

Config = TypeVar("Config", EncoderDecoderConfig, DecoderConfig)

AS_PRESET = "preset"


def overrides_of(*configs: type, preset: str | None = None, skip: Sequence[str] = ()) -> Any:
    """A dataclass of the fields of model configurations, "preset": as the preset has it. With a preset's name, that is
    a field too, and so is what a model can start from in its place. `overridden` gives those that are given.

    It gives typed, documented options for the model without listing its fields a second time.
    """
    fields = {f.name: f for config in configs for f in dataclasses.fields(config) if f.name not in skip}
    # Each class documents its own fields; what a subclass says comes last and counts.
    classes = [c for config in configs for c in reversed(config.__mro__) if dataclasses.is_dataclass(c)]
    described, lines = _described(classes), []
    for name in fields:
        choices = f"One of {', '.join(CHOICES[name])}." if name in CHOICES else ""
        lines.append(f"    {name}: {described.get(name, '')} {choices}".rstrip())
    optional: list[Any] = [(f.name, f.type | Literal["preset"], AS_PRESET) for f in fields.values()]
    if preset is not None:
        optional[:0] = [("preset", str, preset), ("init_from", str | None, None)]
        lines[:0] = [
            "    preset: Name of an architecture in the zoo.",
            "    init_from: Go on from this model, with its tokenizer: a run trained here or imported, a folder of "
            "Hugging Face's, or a name on its hub. Beside it only dropouts can be given (of a decoder-only model also "
            "max_seq_len), and nothing that makes a tokenizer.",
        ]
    made = dataclasses.make_dataclass("ModelOverrides", optional, kw_only=True)
    made.__doc__ = "Model.\n\nArgs:\n" + "\n".join(lines)
    return made


def _described(classes: Sequence[type]) -> dict[str, str]:
    """What dataclasses say of their fields; nothing on a machine that has no command line for it."""
    try:
        import docstring_parser
    except ImportError:
        return {}
    parameters = [p for c in classes for p in docstring_parser.parse_from_object(c).params]
    return {p.arg_name: " ".join((p.description or "").split()) for p in parameters}


def overridden(overrides: Any) -> dict[str, Any]:
    """The fields of a configuration that are given; None is a value like others."""
    fields = dataclasses.asdict(overrides)
    return {n: v for n, v in fields.items() if n not in ("preset", "init_from") and v != AS_PRESET}


def check_init_from(model: Any, tokenizer: Any, *, of_model: Sequence[str], of_tokenizer: Sequence[str] = ()) -> None:
    """With `model.init_from` a recipe's sections `model` and `tokenizer` may give only the fields named here.

    Raises:
        UserError: they give another one, which would have no effect.
    """
    if model.init_from is None:
        return
    for section, fields, free in (("model", model, of_model), ("tokenizer", tokenizer, of_tokenizer)):
        usual, but = type(fields)(), f" but for {', '.join(free)}" if free else ""
        for name in (field.name for field in dataclasses.fields(fields)):
            if name not in ("init_from", *free) and getattr(fields, name) != getattr(usual, name):
                raise UserError(f"{section}.{name}: model.init_from keeps the {section} as it is{but}; leave it out")


def keep_config(config: Config, model: Any, names: Sequence[str] = PROBABILITIES) -> Config:
    """The configuration with the fields `names` of a recipe's section `model`, where they are given."""
    return dataclasses.replace(config, **{name: value for name, value in overridden(model).items() if name in names})
