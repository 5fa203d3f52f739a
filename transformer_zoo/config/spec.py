"""What a spec is: frozen plain data that describes a module, checks each field, and becomes JSON and back."""

import dataclasses
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from transformer_zoo.errors import UserError
from transformer_zoo.words import ABOVE_0, SHARE, Range, did_you_mean, expected, outside

MOST, MOST_MODULES = 2**31 - 1, 10_000
"""Limits of whole numbers: what a kernel can index, and more modules than anybody will put together."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """The numbers of a model around the module that a spec builds.

    n_heads and head_dim are those of the layer's attention. rotary is the module that rotates its queries and keys,
    scores a module that adds to its scores alone. An encoder is bidirectional.
    """

    d_model: int
    max_seq_len: int = 1024
    n_heads: int = 1
    head_dim: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    rotary: Any = None
    scores: Any = None

    @property
    def table_size(self) -> int:
        """Number of fixed positions in a table; those beyond are computed when they are needed."""
        return min(self.max_seq_len, 8192)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Base of all specs.

    A subclass that describes a module names it. `module` is "package.file:Class", imported when a model is built.
    `takes` are the fields of `Context` that the module wants in addition to those of its spec. `counts` are the fields
    of the spec that say how many modules there are. The class is called `...Spec`, and what comes before that is its
    `kind` in files. Nothing else has to know it.
    >>> Spec.from_dict({}), NgramSpec(n=3).to_dict()
    (Spec(), {'kind': 'ngram', 'n': 3, 'rows': 16384})

    Raises:
        UserError: a field has a wrong type or an impossible value.
    """

    module: ClassVar[str] = ""
    takes: ClassVar[tuple[str, ...]] = ()
    counts: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):  # as JSON and YAML have a tuple
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
            most = MOST_MODULES if field.name in self.counts else MOST
            _check_field(f"{type(self).__name__}.{field.name}", field, getattr(self, field.name), most)

    @classmethod
    def kind(cls) -> str:
        """Its name in files."""
        return cls.__name__.removesuffix("Spec").lower()

    def check(self, context: Context) -> None:
        """Check that it fits what is around it. UserError: it does not."""

    def arguments(self, context: Context) -> dict[str, Any]:
        """The arguments of its module: what it takes from the context, and its own fields with specs among them
        built."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        built = {name: value.build(context) if isinstance(value, Spec) else value for name, value in fields.items()}
        return {**{name: getattr(context, name) for name in self.takes}, **built}

    def build(self, context: Context) -> Any:
        """The module, with fresh weights."""
        file, _, name = self.module.partition(":")
        return getattr(import_module(file), name)(**self.arguments(context))

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON, specs in them too. A spec that may be of several kinds begins with its kind."""
        fields = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {"kind": self.kind(), **fields} if self.module else fields

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            UserError: a field is unknown or missing; the message names it.
        """
        hints = cls.hints()
        if unknown := sorted(set(values) - set(hints), key=str):
            near = did_you_mean(str(unknown[0]), hints, f"; its fields are {', '.join(hints)}")
            raise UserError(f"{cls.__name__} has no field {', '.join(map(repr, unknown))}{near}")
        needed = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory]  # both are missing
        if missing := [name for name in needed if name not in values]:
            raise UserError(f"{cls.__name__} needs the field {', '.join(map(repr, missing))}")
        return cls(**{name: _read(hints[name], value, name) for name, value in values.items()})

    @classmethod
    def hints(cls) -> dict[str, Any]:
        """The types of its fields."""
        return {field.name: field.type for field in dataclasses.fields(cls)}

    def check_ids(self, vocab_size: int, *names: str) -> None:
        """UserError: a token in one of these fields is outside the vocabulary."""
        for name in names:
            given = getattr(self, name)
            for token in given if isinstance(given, tuple) else () if given is None else (given,):
                if not 0 <= token < vocab_size:
                    ids = f"ids run from 0 to {vocab_size - 1}"
                    raise UserError(f"{name} {token} is outside the vocabulary of {vocab_size}: {ids}")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.to_dict() if isinstance(value, Spec) else value


def _read(hint: Any, value: Any, name: str) -> Any:
    if isinstance(value, list):
        return tuple(_read(hint, one, name) for one in value)
    if not isinstance(value, Mapping) or not kinds_of(hint):
        return value
    fields = dict(value)
    return class_of(hint, fields.pop("kind", None), f"{name}.").from_dict(fields)


def kinds_of(hint: Any) -> dict[str, type[Spec]]:
    """The specs that a field may have, by their kind: those of this package and those of imported code."""
    _import_all()
    if isinstance(hint, type) and issubclass(hint, Spec):
        inner: Iterable[Any] = hint.__subclasses__()
        own = {hint.kind(): hint} if hint.module or not inner else {}
    else:
        inner, own = () if get_origin(hint) is Literal else get_args(hint), {}
    return own | {kind: spec for one in inner for kind, spec in kinds_of(one).items()}


@cache
def _import_all() -> None:
    """A spec is known once its file has been imported."""
    for file in pkgutil.iter_modules(import_module(__package__).__path__):
        import_module(f"{__package__}.{file.name}")


def class_of(hint: Any, kind: Any, where: str = "") -> type[Spec]:
    """The spec of this kind, or the only one there is. UserError: there is no such kind, or none is given."""
    kinds = kinds_of(hint)
    if kind is None and len(kinds) == 1:
        return next(iter(kinds.values()))
    if not isinstance(kind, str) or kind not in kinds:
        near = did_you_mean(str(kind), kinds)
        raise UserError(f"{where}kind is {kind!r}, expected one of {', '.join(kinds)}{near}")
    return kinds[kind]


def choices_of(hint: Any) -> list[str]:
    """The words that a field may be, if it is one of a few."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [choice for inner in get_args(hint) for choice in choices_of(inner)]


def _check_field(where: str, field: dataclasses.Field[Any], value: Any, most: int) -> None:
    if not _is_of(field.type, value):
        choices = choices_of(field.type)
        kinds = [*kinds_of(field.type), *choices]
        near = did_you_mean(value, choices) if isinstance(value, str) else ""
        wanted = f"one of {', '.join(kinds)}" if kinds else expected(field.type)
        raise UserError(f"{where} is {value!r}, expected {wanted}{near}")
    if type(value) not in (int, float) or field.name.endswith("_id"):  # which the vocabulary bounds
        return
    limits: Range = (int(field.name not in ("offset", "blank")), most, "[]")
    if float in (get_args(field.type) or (field.type,)):
        limits = SHARE if field.name.endswith("dropout") else ABOVE_0
    if wrong := outside(value, limits):
        raise UserError(f"{where} is {value!r}, {wrong}")


def _is_of(hint: Any, value: Any) -> bool:
    """Whether a value has the type of a field. A number may be a whole one, and ids are at least 0."""
    inside = get_args(hint)
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in inside
    if get_origin(hint) is tuple:
        whole = isinstance(value, tuple) and all(_is_of(inside[0], one) for one in value)
        return whole and not any(isinstance(one, int) and one < 0 for one in value)
    if inside:
        return any(_is_of(member, value) for member in inside)
    return type(value) in (int, hint) if hint in (int, float) else isinstance(value, hint)
