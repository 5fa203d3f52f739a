"""What is wrong with a name or a value, in words for people, without the types of Python or of a parser."""

import dataclasses
import difflib
import math
import reprlib
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_NUMBERS = {
    "PositiveInt": "a whole number above 0",
    "NonNegativeInt": "a whole number from 0 on",
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number from 0 on",
    "ClosedUnitInterval": "a number from 0 to 1",
    "OpenUnitInterval": "a number between 0 and 1",
}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
_LARGEST = 2**63 - 1

Range = tuple[float, float, str]
"""Least and largest value, and which of the two belong to the range: "[]", "[)", "(]" or "()"."""

COUNT: Range = (1, 2**63, "[)")
ABOVE_0: Range = (0, math.inf, "()")
SHARE: Range = (0, 1, "[)")
AS_PRESET = "preset"
"""How a recipe gives no value for a field."""

_show = reprlib.Repr()  # of values that contain themselves, or thousands of others
_show.maxlevel, _show.maxdict, _show.maxlist, _show.maxstring, _show.maxother = 2, 3, 4, 60, 60


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """ "; did you mean ...?", or another text if no name is similar."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else otherwise


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name that was meant: one similar to the whole name, or to its last part."""
    names = list(known)
    if found := difflib.get_close_matches(word, names, 1, 0.75):
        return found[0]
    last = {name.rpartition(".")[2]: name for name in names}
    found = difflib.get_close_matches(word.rpartition(".")[2], last, 1, 0.7)
    return last[found[0]] if found else None


def expected(hint: Any) -> str:
    """The values of a type, in words."""
    members = kinds_of_value(hint)
    if len(members) > 1:
        return " or ".join(map(expected, members))
    [kind] = members or [hint]
    origin, inside = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return "fields"
    if origin is Literal:
        return f"one of {', '.join(map(str, inside))}"
    if origin in (list, tuple):
        size = f" of {len(inside)}" if origin is tuple and inside[-1] is not Ellipsis else ""
        return f"a list{size}, each {expected(inside[0])}"
    if origin is dict:
        return "names with fields below each"
    return _NUMBERS.get(getattr(kind, "__name__", ""), _WORDS.get(kind, "another value"))


def unfit(hint: Any, value: Any, name: str) -> str | None:
    """What is wrong with a value of this type, called `name`, or with a field inside it; None: nothing."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            what = "empty" if value is None else _show.repr(value)
            return f"{name or 'the recipe'} is {what}: give its fields below it, or leave it out"
        return _unfit_fields(hint, value, f"{name}." if name else "")
    if get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            return f"{name} is {_show.repr(value)}, expected {expected(hint)}"
        found = (unfit(get_args(hint)[1], inner, f"{name}.{key}") for key, inner in value.items())
        return next(filter(None, found), None)
    if fits(hint, value):
        return None
    if value is None:
        return f"{name} is empty: give it a value, or leave the line out"
    return f"{name} is {_show.repr(value)}, expected {expected(hint)}{_advice(hint, value)}"


def _unfit_fields(kind: Any, value: Mapping[Any, Any], prefix: str) -> str | None:
    hints = get_type_hints(kind)
    for key, inner in value.items():
        if key not in hints:
            known = list(names_of(kind, prefix))
            near = did_you_mean(f"{prefix}{key}", known, f"; there are {', '.join(hints)}")
            return f"{prefix}{_show.repr(key) if not isinstance(key, str) else key[:60]}: no such field{near}"
        if found := unfit(hints[key], inner, prefix + key):
            return found
    return None


def _advice(hint: Any, value: Any) -> str:
    """Additional advice."""
    members = _members(hint)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST:
        return " below 2^63"
    if isinstance(value, float) and not math.isfinite(value):
        return ", a finite one"
    if str in members and isinstance(value, bool):
        return " (YAML takes yes, no, on and off for true and false: write it in quotes)"
    if str in members and not isinstance(value, list | dict):
        return " without NUL" if isinstance(value, str) else " (write it in quotes)"
    choices = [str(c) for m in members if get_origin(m) is Literal for c in get_args(m)]
    return did_you_mean(str(value), choices) if isinstance(value, str) and choices else ""


def fits(hint: Any, value: Any) -> bool:
    """Whether a value in YAML's form has a type. Numbers may be written as text, as 1e-3 is in YAML 1.1."""
    members = _members(hint)
    if len(members) > 1:
        return any(fits(member, value) for member in members)
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str | int) and value in inside
    if origin in (list, tuple):
        is_list = isinstance(value, list if origin is list else list | tuple)
        is_long_enough = origin is list or inside[-1] is Ellipsis or (is_list and len(value) == len(inside))
        return is_list and is_long_enough and all(fits(inside[0], one) for one in value)
    if hint is Any or hint is type(None):
        return hint is Any or value is None
    if hint is bool:
        return isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false"))
    if isinstance(hint, type) and issubclass(hint, int | float):
        return _is_number(hint, value)
    return isinstance(value, str | Path) and "\0" not in str(value)


def _is_number(kind: type, value: Any) -> bool:
    wrong = float if issubclass(kind, int) else bool
    if isinstance(value, bool | wrong) or not isinstance(value, int | float | str):
        return False
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        return False
    return abs(number) <= _LARGEST if isinstance(number, int) else math.isfinite(number)


def outside(number: float, limits: Range) -> str | None:
    """What a number outside of its range should be; None: it is inside."""
    least, most, ends = limits
    above = number >= least if ends[0] == "[" else number > least
    if above and (number <= most if ends[1] == "]" else number < most):
        return None
    start = f"expected {'at least' if ends[0] == '[' else 'more than'} {least}"
    if most == math.inf:
        return f"{start} and finite"
    return f"{start} and {'at most' if ends[1] == ']' else 'less than'} {'2^63' if most == 2**63 else f'{most:,}'}"


def kinds_of_value(hint: Any) -> list[Any]:
    """The types of possible values, without the types that stand for no value."""
    return [kind for kind in _members(hint) if kind is not type(None) and get_args(kind) != (AS_PRESET,)]


def _members(hint: Any) -> list[Any]:
    """The types of a union, or the only type."""
    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


def names_of(kind: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields of a dataclass, its sections and their fields."""
    for name, hint in get_type_hints(kind).items():
        yield prefix + name
        if dataclasses.is_dataclass(hint):
            yield from names_of(hint, f"{prefix}{name}.")
