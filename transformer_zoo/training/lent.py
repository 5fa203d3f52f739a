"""Options that are declared once, as sections of recipes have them."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

from transformer_zoo.errors import UserError

T = TypeVar("T")


def lent(kind: type, *, without: Sequence[str] = ()) -> Any:
    """A dataclass with the fields of another, documented as there, to be inherited by a section of a recipe."""
    hints = get_type_hints(kind)
    fields = [(f.name, hints[f.name], f.default) for f in dataclasses.fields(kind) if f.name not in without]
    made = dataclasses.make_dataclass(f"Lent{kind.__name__}", fields, frozen=True, kw_only=True)
    docs = [inspect.cleandoc(one.__doc__ or "") for one in reversed(kind.__mro__) if dataclasses.is_dataclass(one)]
    said = [doc.partition("\nArgs:\n")[2].partition("\n\n")[0] for doc in docs]
    made.__doc__ = "\n".join([f"{kind.__name__}.", "", "Args:", *said])
    return made


def taken(kind: type[T], section: Any, name: str) -> T:
    """What a section of a recipe, called `name`, has of a dataclass that lent it its fields.

    Raises:
        UserError: a value is none for it.
    """
    own: Any = kind
    try:
        return kind(**{f.name: getattr(section, f.name) for f in dataclasses.fields(own) if hasattr(section, f.name)})
    except UserError as error:  # it begins with the field
        raise UserError(f"{name}.{error}") from None
