"""What a family of models is: its sizes, which fields of its config.json are which of ours, and which of its weights.

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
    """UserError: a field of theirs that is there, not null, and of another type. A number may be a whole one."""
    for name, expected in types.items():
        value, allowed = theirs.get(name), get_args(expected) or (expected,)
        if not (value is None or type(value) in allowed or (float in allowed and type(value) is int)):
            words = " or ".join(kind.__name__ for kind in allowed)
            raise UserError(f"config.json: {name} is {value!r}, expected {words}")


@dataclass(frozen=True)
class Field:
    """One field of theirs that is one of ours.

    name: theirs.
    default: its value where config.json does not have it, of the type that it must be unless `kind` says so.
    values: theirs -> ours, where they are not the same; of several of theirs the first is written.
    """

    name: str
    default: Any
    values: Mapping[Any, Any] | None = None
    kind: type = NoneType

    def read(self, theirs: Fields) -> Any:
        """Ours. UserError: a value of another type, or that has none of ours."""
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
        """Theirs, or nothing where there is none."""
        if self.values is None:
            return {self.name: ours}
        return next(({self.name: name} for name, value in self.values.items() if value == ours), {})


@dataclass(frozen=True)
class Part:
    """What a table cannot say: fields that belong together, or one that depends on others.

    names: the fields of theirs that it reads, and their types.
    read: (theirs, what is read of ours so far) -> more of ours.
    write: our configuration -> theirs.
    limits: the fields of theirs of which it refuses some values.
    """

    names: Types
    read: Callable[[Fields, Fields], dict[str, Any]]
    write: Callable[[Any], dict[str, Any]]
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weight:
    """A module of theirs whose weight (and bias) are ours in another form.

    part: of several projections in one, such as queries, keys and values: which of them, from 0.
    by_head: they lie there head by head, each with its query, key and value; otherwise one after the other.
    transposed: the matrix is (inputs, outputs).
    row: a vector that is one row (1, V) there.
    mirrored: each head has its second half first, as where rotary positions turn the other way round.
    """

    module: str
    part: int | None = None
    by_head: bool = False
    transposed: bool = False
    row: bool = False
    mirrored: bool = False


@dataclass(frozen=True)
class Family:
    """Models of one architecture, as data; most are one `model_type` of transformers too.

    Names of our fields are those that `ModelConfig.changed` takes.

    Args:
        config: which of our configurations it has.
        constants: fields of ours that are the same in all of the family.
        sizes: the models that the zoo names, with their other fields.
        model_type: its name in config.json; "": there is none, and what follows is left out.
        architecture: its class with a head for language modelling.
        fields: ours -> theirs.
        parts: what the table of fields cannot say, read after it and in this order.
        required: theirs -> the values that are supported, where only some are.
        ignored: theirs that change nothing, beside those that no family is changed by.
        aliases: other names of theirs -> theirs.
        weights: our module -> theirs; "{i}" is the number of a layer, "{j}" one inside a layer.
        gated_weights: what replaces `weights` where the feed-forward is gated.
        prefix: what the names of weights lack in a file of the model without its head.
        unused: weights that may be in a file and are not needed.
        renamed: what some files call a weight -> its name; where both are there and the former is `unused`, the latter
            counts.
        spare_embedding: a name that must be in a file, though it is only a copy where nothing is shared.
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
    gated_weights: Mapping[str, str | Weight] = field(default_factory=dict)
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
        """The fields of theirs of which some values are refused."""
        chosen = {entry.name for entry in self.fields.values() if entry.values is not None}
        return frozenset(chosen.union(self.required, REFUSED, *(part.limits for part in self.parts)))

    def read(self, theirs: Fields) -> Config:
        """Our configuration for config.json's fields.

        Raises:
            UserError: a field that is not known or has an unsupported value, named.
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
        """config.json's fields for our configuration, as far as there are any: `read` tells which are lost."""
        theirs: dict[str, Any] = {"architectures": [self.architecture], "model_type": self.model_type}
        for name, entry in self.fields.items():
            value = spelled_out(config, name)
            if value is not None or self._may_be_none(name):
                theirs |= entry.write(value)
        for part in self.parts:
            theirs |= part.write(config)
        return theirs

    def weight(self, name: str, config: Config) -> tuple[str, Weight]:
        """Where our tensor `name` is: the full name of theirs, and in which form."""
        module, _, kind = name.rpartition(".")
        table = {**self.weights, **(self.gated_weights if value_at(config, "ffn.gated") else {})}
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
        """Whether a field of theirs changes nothing. What begins with _ or is a version is about the file, if no table
        has it."""
        about_the_file = (name.startswith("_") or name.endswith("_version")) and name not in self._known
        return about_the_file or name in GENERIC_FIELDS or name in self.ignored

    def _has_class(self, auto_map: Any) -> bool:
        """Whether the code that a file names is of the class that transformers has of this family."""
        named = auto_map.items() if isinstance(auto_map, Mapping) else ()
        heads = [
            str(where).rpartition(".")[2] for name, where in named if re.search("CausalLM|Seq2SeqLM|MaskedLM", name)
        ]
        return set(heads) == {self.architecture}

    def _check(self, theirs: Fields) -> None:
        """Refuses what is not known and what is not supported."""
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
    """What a field means where it is None is left to that, as in the sizes."""
    meant: dict[str, Any] = {"n_kv_heads": ours.get("n_heads"), "final_norm": ours.get("norm_position") != "post"}
    meant["head_dim"] = ours["d_model"] / max(ours.get("n_heads", 1), 1)
    meant["attention.qkv_bias"] = ours.get("attention.bias", ours.get("bias", True))
    return {name: None if name in meant and value == meant[name] else value for name, value in ours.items()}


def spelled_out(config: Config, name: str) -> Any:
    """A field of ours; where it is None for as another one, that."""
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
