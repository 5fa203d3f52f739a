"""What a family of models is: its sizes, and the maps from its config.json's fields and its weights to ours.

Words: "ours" are the names of this package, "theirs" those of `transformers` and of the files on the hub.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import NoneType, UnionType
from typing import Any, get_args

from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig, ModelConfig
from transformer_zoo.config.changes import hint_of, value_at
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.common import GENERIC_FIELDS, REFUSED

Config = DecoderConfig | EncoderDecoderConfig | EncoderConfig
Fields = Mapping[str, Any]
Types = Mapping[str, type | UnionType]


def check_types(theirs: Fields, types: Types) -> None:
    """Check the types of their fields. UserError: a value is not null and has another type. A float may be whole."""
    for name, expected in types.items():
        value, allowed = theirs.get(name), get_args(expected) or (expected,)
        if not (value is None or type(value) in allowed or (float in allowed and type(value) is int)):
            words = " or ".join(kind.__name__ for kind in allowed)
            raise UserError(f"config.json: {name} is {value!r}, expected {words}")


@dataclass(frozen=True)
class Field:
    """One field of theirs that is one of ours.

    name: theirs.
    default: its value if config.json does not have it. Its type is the required one, unless `kind` gives another.
    values: theirs -> ours, if they differ; if several of theirs are one of ours, the first is written.
    """

    name: str
    default: Any
    values: Mapping[Any, Any] | None = None
    kind: type = NoneType

    def read(self, theirs: Fields) -> Any:
        """Our value. UserError: theirs has another type, or no counterpart."""
        value = theirs.get(self.name, self.default)
        if self.values is None:
            usual = int if self.default is None else type(self.default)
            check_types(theirs, {self.name: usual if self.kind is NoneType else self.kind})
            return value
        if not isinstance(value, str | bool | int | None) or value not in self.values:
            known = ", ".join(repr(v) for v in self.values)
            raise UserError(f"config.json: {self.name} is {value!r}, which is not supported; {known} are")
        return self.values[value]

    def write(self, ours: Any) -> dict[str, Any]:
        """Their value, or nothing if there is none."""
        if self.values is None:
            return {self.name: ours}
        return next(({self.name: name} for name, value in self.values.items() if value == ours), {})


@dataclass(frozen=True)
class Part:
    """What a table cannot express: fields that belong together, or one that depends on others.

    names: the fields of theirs that it reads, and their types.
    read: (theirs, our fields so far) -> more of our fields.
    write: our configuration -> their fields.
    limits: the fields of theirs for which it refuses some values.
    """

    names: Types
    read: Callable[[Fields, Fields], dict[str, Any]]
    write: Callable[[Any], dict[str, Any]]
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weight:
    """A module of theirs whose weight (and bias) is ours in another form.

    part: if several projections are in one matrix, such as queries, keys and values: the number of this one, from 0.
    groups: number of groups in which the projections lie, each group with a share of every projection. 1: the
        projections follow each other; 0: there is one group for each key/value head, with its queries, key and value.
    transposed: the matrix is (inputs, outputs).
    row: a vector that is one row (1, V) in their files.
    mirrored: the second half of each head comes first, as in rotary positions that rotate in the other direction.
    """

    module: str
    part: int | None = None
    groups: int = 1
    transposed: bool = False
    row: bool = False
    mirrored: bool = False


@dataclass(frozen=True)
class Family:
    """Models of one architecture, as data; most families are also one `model_type` of transformers.

    Names of our fields are those that `ModelConfig.changed` takes.

    Args:
        config: the class of our configuration.
        constants: our fields that are the same in the whole family.
        sizes: the models that the zoo names, with their other fields.
        model_type: its name in config.json; "": it has none, and the following arguments are left out.
        architecture: its class with a head for language modelling.
        fields: ours -> theirs.
        parts: what the table of fields cannot express, read after it and in this order.
        required: theirs -> the supported values, if only some are.
        ignored: fields of theirs that change nothing, in addition to those that change no family.
        aliases: other names of theirs -> theirs.
        weights: our module -> theirs; "{i}" is the number of a layer, "{j}" one inside a layer.
        weights_where: what replaces some of `weights` where a field of ours has a given value.
        prefix: beginning of the names of weights that a file of the model without its head lacks.
        unused: weights that may be in a file and are not needed.
        renamed: a weight's name in some files -> its usual name. If both exist and the former is `unused`, the latter
            counts.
        spare_embedding: a name that must be in a file, though it is only a copy if nothing is shared.
        has_waves: sinusoids are among the weights that must be in a file.
    """

    config: type[DecoderConfig] | type[EncoderDecoderConfig] | type[EncoderConfig]
    constants: Fields = field(default_factory=dict)
    sizes: Mapping[str, Fields] = field(default_factory=dict)
    model_type: str = ""
    architecture: str = ""
    fields: Mapping[str, Field] = field(default_factory=dict)
    weights: Mapping[str, str | Weight] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    required: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    weights_where: Mapping[tuple[str, Any], Mapping[str, str | Weight]] = field(default_factory=dict)
    prefix: str = ""
    unused: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    spare_embedding: str | None = None
    has_waves: bool = False

    def preset(self, name: str) -> ModelConfig:
        """The configuration of one of its sizes."""
        return self.config.of(**{**self.constants, **self.sizes[name]})

    @property
    def limits(self) -> frozenset[str]:
        """The fields of theirs for which some values are refused."""
        chosen = {entry.name for entry in self.fields.values() if entry.values is not None}
        return frozenset(chosen.union(self.required, REFUSED, *(part.limits for part in self.parts)))

    def read(self, theirs: Fields) -> Config:
        """Our configuration for config.json's fields.

        Raises:
            UserError: a field is not known or has an unsupported value; the message names it.
        """
        theirs = self._rename(theirs)
        self._check(theirs)
        ours: dict[str, Any] = dict(self.constants)
        for name, entry in self.fields.items():
            ours[name] = entry.read(theirs)
            if ours[name] is None and entry.values is None and not self._may_be_none(name):
                raise UserError(f"config.json: {entry.name} is null")
        for part in self.parts:
            check_types(theirs, part.names)
            try:
                ours |= part.read(theirs, ours)
            except UserError:
                raise
            except (TypeError, AttributeError, ArithmeticError, ValueError) as error:  # a null, 0 or NaN for a number
                raise UserError(f"config.json: {', '.join(part.names)} cannot be understood ({error})") from None
        try:
            return self.config.of(**_shortened(ours))
        except UserError as error:
            raise UserError(f"config.json of a {self.model_type} model: {error}") from None

    def write(self, config: Config) -> dict[str, Any]:
        """config.json's fields for our configuration, as far as there are any; `read` shows which ones are lost."""
        theirs: dict[str, Any] = {"architectures": [self.architecture], "model_type": self.model_type}
        for name, entry in self.fields.items():
            value = spelled_out(config, name)
            if value is not None or self._may_be_none(name):
                theirs |= entry.write(value)
        for part in self.parts:
            theirs |= part.write(config)
        return theirs

    def weight(self, name: str, config: Config) -> tuple[str, Weight]:
        """Where our tensor `name` is: the full name of theirs, and its form."""
        module, _, kind = name.rpartition(".")
        table = dict(self.weights)
        for (field_of_ours, value), others in self.weights_where.items():
            table |= others if value_at(config, field_of_ours) == value else {}
        words, numbers = [], dict.fromkeys("ij", "")
        for word in module.split("."):
            if word.isdigit():
                letter = next(letter for letter, number in numbers.items() if not number)
                word, numbers[letter] = f"{{{letter}}}", word
            words.append(word)
        entry = table[".".join(words) if module else name]
        entry = Weight(entry) if isinstance(entry, str) else entry
        theirs = entry.module.replace("{i}", numbers["i"]).replace("{j}", numbers["j"])
        return (f"{theirs}.{kind}" if module else theirs), entry

    def _may_be_none(self, name: str) -> bool:
        return NoneType in get_args(hint_of(self.config, name))

    def _rename(self, theirs: Fields) -> dict[str, Any]:
        """Fields under the names that the tables have."""
        renamed = {name: value for name, value in theirs.items() if name not in self.aliases}
        for alias, name in self.aliases.items():
            if alias in theirs and renamed.setdefault(name, theirs[alias]) != theirs[alias]:
                raise UserError(
                    f"config.json: {name} is {renamed[name]!r} and {alias} {theirs[alias]!r}, which mean the same"
                )
        return renamed

    @property
    def _known(self) -> set[str]:
        return {entry.name for entry in self.fields.values()}.union(*(part.names for part in self.parts))

    def ignores(self, name: str) -> bool:
        """Whether a field of theirs changes nothing. A field that begins with _ or is a version describes the file,
        unless a table has it."""
        about_the_file = (name.startswith("_") or name.endswith("_version")) and name not in self._known
        return about_the_file or name in GENERIC_FIELDS or name in self.ignored

    def _has_class(self, auto_map: Any) -> bool:
        """Whether the code that a file names belongs to this family's class in transformers."""
        named = auto_map.items() if isinstance(auto_map, Mapping) else ()
        heads = [
            str(where).rpartition(".")[2] for name, where in named if re.search("CausalLM|Seq2SeqLM|MaskedLM", name)
        ]
        return set(heads) == {self.architecture}

    def _check(self, theirs: Fields) -> None:
        """Refuse fields that are not known and values that are not supported."""
        known = self._known
        for name, value in theirs.items():
            if name in REFUSED and name not in self.ignored:
                if value and not (name == "auto_map" and self._has_class(value)):
                    raise UserError(f"config.json: {name}: {REFUSED[name]}")
            elif name in self.required:
                if value not in self.required[name]:
                    supported = " or ".join(repr(v) for v in self.required[name])
                    raise UserError(f"config.json: {name} is {value!r}; only {supported} is supported")
            elif value is not None and name not in known and not self.ignores(name):
                raise UserError(
                    f"config.json: {name} is not known for {self.model_type} and may change the result; "
                    "if it does not, remove it there (a hub model: in what `hf download NAME --local-dir DIR` fetches)"
                )


def _shortened(ours: Fields) -> dict[str, Any]:
    """With None for fields whose value is what None means, as in the sizes."""
    meant: dict[str, Any] = {"n_kv_heads": ours.get("n_heads"), "final_norm": ours.get("norm_position") != "post"}
    meant["head_dim"] = ours["d_model"] / max(ours.get("n_heads", 1), 1)
    meant["attention.qkv_bias"] = ours.get("attention.bias", ours.get("bias", True))
    return {name: None if name in meant and value == meant[name] else value for name, value in ours.items()}


def spelled_out(config: Config, name: str) -> Any:
    """The value of a field of ours; if it is None and means another field's value, that value."""
    value = value_at(config, name)
    if value is None and name == "head_dim":
        return config.d_model // value_at(config, "n_heads")
    same_as = {"n_kv_heads": "n_heads", "attention.qkv_bias": "attention.bias"}
    return value_at(config, same_as[name]) if value is None and name in same_as else value


def layers(ours: str, theirs: str, table: Mapping[str, str | Weight]) -> dict[str, str | Weight]:
    """The table of one stack's layers, with `ours` and `theirs` before each name."""
    full: dict[str, str | Weight] = {}
    for name, entry in table.items():
        module = f"{theirs}.{entry if isinstance(entry, str) else entry.module}"
        full[f"{ours}.{name}"] = module if isinstance(entry, str) else replace(entry, module=module)
    return full
