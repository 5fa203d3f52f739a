"""What command lines and recipes share: the parser, and what is wrong with a name or a value, in words for people."""

import dataclasses
import difflib
import math
import re
import reprlib
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser

from transformer_zoo.errors import printable

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
_LEFT_OUT = ("preset",)  # how a recipe says that it says nothing
_show = reprlib.Repr()  # of values that contain themselves, or thousands of others
_show.maxlevel, _show.maxdict, _show.maxlist, _show.maxstring, _show.maxother = 2, 3, 4, 60, 60


def refuse(message: str) -> NoReturn:
    """Says what is wrong with the options in one line and exits with status 2."""
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(2)


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """ "; did you mean ...?", or what to say where nothing is like it."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else otherwise


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name that was meant: the like of the whole of it, or of its last part."""
    names = list(known)
    if found := difflib.get_close_matches(word, names, 1, 0.75):
        return found[0]
    last = {name.rpartition(".")[2]: name for name in names}
    found = difflib.get_close_matches(word.rpartition(".")[2], last, 1, 0.7)
    return last[found[0]] if found else None


def expected(hint: Any) -> str:
    """What a type takes, in words."""
    members = [m for m in _members(hint) if m is not type(None) and get_args(m) != _LEFT_OUT]
    if len(members) > 1:
        return " or ".join(map(expected, members))
    [kind] = members or [hint]
    inside = get_args(kind)
    match get_origin(kind):
        case _ if dataclasses.is_dataclass(kind):
            return "fields"
        case origin if origin is Literal:
            return f"one of {', '.join(map(str, inside))}"
        case origin if origin is list:
            return f"a list, each {expected(inside[0])}"
        case origin if origin is tuple and inside[-1] is not Ellipsis:
            return f"a list of {len(inside)}, each {expected(inside[0])}"
        case origin if origin is tuple:
            return f"a list, each {expected(inside[0])}"
        case origin if origin is dict:
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
    """What else may help."""
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
    """Whether a value, as YAML has it, is of a type. Numbers may be written as text, as 1e-3 is in YAML 1.1."""
    members = _members(hint)
    if len(members) > 1:
        return any(fits(member, value) for member in members)
    inside = get_args(hint)
    match get_origin(hint):
        case origin if origin is Literal:
            return value in inside if isinstance(value, str | int) else False
        case origin if origin is list:
            return isinstance(value, list) and all(fits(inside[0], one) for one in value)
        case origin if origin is tuple:
            many = inside[-1] is Ellipsis or (isinstance(value, list | tuple) and len(value) == len(inside))
            return isinstance(value, list | tuple) and many and all(fits(inside[0], one) for one in value)
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


def _members(hint: Any) -> list[Any]:
    """The types of a union, or the only one."""
    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


def names_of(kind: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields of a dataclass, its sections and their fields."""
    for name, hint in get_type_hints(kind).items():
        yield prefix + name
        if dataclasses.is_dataclass(hint):
            yield from names_of(hint, f"{prefix}{name}.")


class Parser(ArgumentParser):
    """Says what is wrong with an option in one line that names it as it is written, and exits with status 2."""

    dashes = "--"  # before the name of an option in a message
    words: Sequence[str] = ()  # of the command line

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Called with whatever the parser has against the command line."""
        refuse(self.explain(re.sub(r"\s+", " ", message).strip()))

    def check(self, given: Mapping[str, Any]) -> None:
        """Refuses numbers that no computer counts to, which the parser takes."""
        for action in self._actions:
            value, hint = given.get(action.dest), getattr(action, "_typehint", None)
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, int | float) and (wrong := unfit(hint or type(one), one, self.shown(action))):
                    refuse(wrong)

    def shown(self, action: Any) -> str:
        """The name of an option as it is written."""
        flag = next((flag for flag in action.option_strings if flag.startswith("--")), action.dest)
        return str(flag) if self.dashes else str(flag).lstrip("-")

    def explain(self, message: str) -> str:
        """The parser's message in other words."""
        flags = [flag for action in self._actions for flag in action.option_strings]
        names = [flag if self.dashes else flag.lstrip("-") for flag in flags]
        if found := re.search(r"unrecognized arguments: (\S+)", message):
            word = found[1].partition("=")[0]
            if not word.startswith("-"):
                return f"{word} is one too many; --help lists what there is"
            shown = word if self.dashes else word.lstrip("-")
            return f"{shown}: no such option{did_you_mean(shown, names, '; --help lists them')}"
        if found := re.search(r"ption '([^']+)' is not accepted|does not accept option '([^']+)'", message):
            shown = found[1] or found[2]
            return f"{shown}: no such field{did_you_mean(shown, names, '; --help lists them')}"
        if found := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            choices = re.findall(r"[^\s',]+", found[2])
            near = did_you_mean(found[1], choices, f"; there are {', '.join(choices)}")
            if "COMMAND" in message:
                return f"{found[1]}: no such command{near}"
            return f"{message.partition(':')[0].removeprefix('argument ')} {found[1]}: no such choice{near}"
        if found := re.search(r"arguments? (\S+?):? (?:expected .*argument|ignored explicit argument (.*))", message):
            shown = found[1].rstrip(":").rpartition("/")[2]
            shown = shown if self.dashes else shown.lstrip("-")
            return f"{shown} takes no value" if found[2] else f"{shown} needs a value"
        if found := re.search(r"arguments are required: (.*)", message):
            missing = [name.rpartition(".")[2] if self.dashes else name for name in found[1].split(", ")]
            return f"{' and '.join(missing)} missing: give {'them' if len(missing) > 1 else 'it'}; --help says how"
        if found := re.search(r'Parser key "([^"]+)"', message):
            return self._of_value(found[1], message)
        return re.sub(r"<class '(?:\w+\.)*(\w+)'>|typing\.", r"\1", message)

    def _of_value(self, key: str, message: str) -> str:
        """What is wrong with the value of an option."""
        action = next((a for a in self._actions if a.dest == key), None)
        shown = key if action is None else self.shown(action)
        hint = getattr(action, "_typehint", None) or getattr(action, "type", None)
        given = re.search(r"(?:Got value|Given value): (.*)$", message)
        value: Any = self._given(action)
        value = given[1] if value is None and given else value
        if hint is not None and value is not None:
            try:
                plain = yaml.safe_load(value)
            except (yaml.YAMLError, ValueError, RecursionError):
                plain = value
            for one in (plain, value):
                if said := unfit(hint, one, shown):
                    return said
        return f"{shown}: something in it has a value where it needs fields; give them below it"

    def _given(self, action: Any) -> str | None:
        """The word that was given for an option, the last one if there are several."""
        flags = action.option_strings if action is not None else ()
        for i in reversed(range(len(self.words))):
            word, equals, value = self.words[i].partition("=")
            if word in flags:
                return value if equals else next(iter(self.words[i + 1 :]), None)
        return None
