"""What `--help` prints: the purpose, examples, the options in the examples, and all others under headings."""

import shutil
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from transformer_zoo.words import AS_PRESET, kinds_of_value

if TYPE_CHECKING:
    from transformer_zoo.commandline.parser import Parser

WIDEST = 100  # columns
_INDENT = 24  # columns before the description of an option
_KINDS: dict[type, str] = {bool: "true|false", int: "N", float: "NUMBER", Path: "PATH", list: "LIST", tuple: "LIST"}
_UNSAID: tuple[Any, ...] = ("", AS_PRESET, SUPPRESS, [], {}, ())


def help_text(parser: "Parser") -> str:
    """The whole text."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    parts = [f"Usage: {_usage(parser)}", *_wrapped(parser.description or "", width)]
    if parser.examples:
        parts.append("\n".join(["Examples:", *(f"  {example}" for example in parser.examples)]))
    if parser.subcommands:
        parts.append(_listed("Commands", parser.subcommands.items(), width))
    first, rest = _by_need(parser)
    parts.append(_listed("Options", map(_entry, first), width))
    for title, actions in rest.items():
        parts.append(_listed(title if first else "Options", map(_entry, actions), width))
    return "\n\n".join(filter(None, parts)) + "\n"


def _usage(parser: "Parser") -> str:
    words = [_placed(action) for _, action in parser.titled() if not action.option_strings]
    program = str(parser.prog).replace(" [options]", "")  # as the builder writes it between program and command
    return " ".join([program, *(["COMMAND"] if parser.subcommands else words), "[options]"])


def _by_need(parser: "Parser") -> tuple[list[Action], dict[str, list[Action]]]:
    """Positional arguments, then the options in the examples in their order; and all others by the heading they stand
    under."""
    words = " ".join(parser.examples).split()
    first: list[tuple[int, Action]] = []
    rest: dict[str, list[Action]] = {}
    for title, action in parser.titled():
        places = [words.index(flag) for flag in action.option_strings if flag in words]
        if places or not action.option_strings:
            first.append((max(places, default=-1), action))
        else:
            rest.setdefault(title, []).append(action)
    return [action for _, action in sorted(first, key=lambda item: item[0])], rest


def _listed(title: str, entries: Iterable[tuple[str, str]], width: int) -> str:
    """A heading and its entries: names, and in a second column their descriptions."""
    lines = [line for name, about in entries for line in _columns(name, about, width)]
    return "\n".join([textwrap.fill(f"{title}:", width), *lines]) if lines else ""


def _columns(name: str, about: str, width: int) -> Iterator[str]:
    said = textwrap.wrap(about, width - _INDENT, break_on_hyphens=False) or [""]
    if len(name) + 4 > _INDENT:
        yield f"  {name}"
    else:
        yield f"  {name:{_INDENT - 2}}{said.pop(0)}".rstrip()
    yield from (" " * _INDENT + line for line in said if line)


def _wrapped(text: str, width: int) -> list[str]:
    return [textwrap.fill(text, width, break_on_hyphens=False)] if text else []


def _entry(action: Action) -> tuple[str, str]:
    """An option as it is written, and its description."""
    if not action.option_strings:
        return _placed(action), _said(action)
    flag = next((flag for flag in action.option_strings if flag.startswith("--")), action.option_strings[0])
    return (flag if action.nargs == 0 else f"{flag} {_value(action)}"), _said(action)


def _placed(action: Action) -> str:
    name = action.dest.rstrip("_").upper()
    forms: dict[int | str | None, str] = {None: name, "?": f"[{name}]", "*": f"{name} ..."}
    return forms.get(action.nargs, f"[{name} ...]")


def _hint(action: Action) -> Any:
    """The type of the option's value."""
    choices = getattr(action, "choices", None)
    return getattr(action, "_typehint", None) or action.type or (Literal[tuple(choices)] if choices else str)


def _value(action: Action) -> str:
    return _word(_hint(action)) + " ..." * (action.nargs == "+")


def _word(hint: Any) -> str:
    """A word for a value of this type."""
    kind = next(iter(kinds_of_value(hint)), str)
    if get_origin(kind) is Literal:
        return "NAME"
    plain = get_origin(kind) or kind
    names = (name for base, name in _KINDS.items() if isinstance(plain, type) and issubclass(plain, base))
    return next(names, "TEXT" if plain is str else "FIELDS")


def _choices(hint: Any) -> list[str]:
    """The values that can be chosen, for a list too."""
    kinds = [
        inner for kind in kinds_of_value(hint) for inner in (kind, *get_args(kind)) if get_origin(inner) is Literal
    ]
    return [str(choice) for kind in kinds for choice in get_args(kind)]


def _said(action: Action) -> str:
    about = (action.help or "").strip()
    more = []
    if action.nargs != 0 and (choices := _choices(_hint(action))):
        more.append(f"one of {', '.join(choices)}")
    usual = action.default
    if not (usual is None or usual is False or usual in _UNSAID) and "default" not in about.lower():
        more.append(f"by default {_shown(usual)}")
    return f"{about} ({'; '.join(more)})" if more else about


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(_shown, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
