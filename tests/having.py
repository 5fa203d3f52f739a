"""Recipes are frozen: one with another field."""

import dataclasses
from typing import Any, TypeVar

T = TypeVar("T")


def having(recipe: T, name: str, value: Any) -> T:
    """The recipe with this value of `section.field`."""
    first, _, rest = name.partition(".")
    inner = having(getattr(recipe, first), rest, value) if rest else value
    return dataclasses.replace(recipe, **{first: inner})  # type: ignore[type-var]
