"""Options that are declared once: dataclasses that take over fields of others, with their documentation."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, get_type_hints

from transformer_zoo.errors import UserError

T = TypeVar("T")


@cache
def described(owner: Any) -> dict[str, str]:
    """The descriptions of a function's parameters, or of the fields of a dataclass and its bases."""
    try:
        import docstring_parser
    except ImportError:  # a machine without the packages for a command line
        return {}
    owners = reversed(owner.__mro__[:-1]) if inspect.isclass(owner) else [owner]
    parameters = [p for one in owners for p in docstring_parser.parse_from_object(one).params]
    return {p.arg_name: " ".join((p.description or "").split()) for p in parameters}


def dataclass_of(name: str, about: str, fields: Mapping[str, tuple[Any, Any, str]], *, frozen: bool = False) -> Any:
    """A dataclass with fields by name: their types, their defaults and their descriptions."""
    typed = [(field, hint, default) for field, (hint, default, _) in fields.items()]
    made = dataclasses.make_dataclass(name, typed, frozen=frozen, kw_only=True)
    made.__doc__ = "\n".join([about, "", "Args:", *(f"    {field}: {said}" for field, (*_, said) in fields.items())])
    return made


def lent(kind: type, *, without: Sequence[str] = (), optional: bool = False) -> Any:
    """A dataclass with the fields of another one, to be inherited; if `optional`, all are None by default."""
    hints, said, found = get_type_hints(kind), described(kind), {}
    for field in (field for field in dataclasses.fields(kind) if field.name not in without):
        hint, default, about = hints[field.name], field.default, said.get(field.name, "")
        if optional:
            about += "" if default is None else f" By default {default}."
            hint, default = hint | None, None
        found[field.name] = hint, default, about
    return dataclass_of(f"Lent{kind.__name__}", f"{kind.__name__}.", found, frozen=True)


def taken(kind: type[T], section: Any, name: str) -> T:
    """The part of a recipe's section, called `name`, that a dataclass gave to it.

    Raises:
        UserError: a value is not valid for it.
    """
    own: Any = kind
    try:
        return kind(**{f.name: getattr(section, f.name) for f in dataclasses.fields(own) if hasattr(section, f.name)})
    except UserError as error:  # it begins with the field
        raise UserError(f"{name}.{error}") from None
