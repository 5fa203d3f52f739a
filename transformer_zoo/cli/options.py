"""A command line made from typed functions: signature and docstring are options and --help."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import docstring_parser

from transformer_zoo.commandline import Parser
from transformer_zoo.errors import UsageError, UserError


def run_command(
    commands: Sequence[Callable[..., None]],
    arguments: Sequence[str],
    *,
    prog: str,
    description: str,
    version: str,
) -> None:
    """Run the function of `commands` that the first argument names, with the options that follow.

    A parameter without a default is positional, and so is one before a `/`; a list takes any number of values; a
    dataclass as a parameter lends its fields as options; a `bool` is a flag.
    """
    parser = Parser(prog=prog, description=description, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    parsers = {}
    subcommands = parser.add_subcommands(required=True, dest="command", metavar="COMMAND")
    for command in commands:
        about = docstring_parser.parse(inspect.getdoc(command) or "")
        text = f"{about.short_description} {about.long_description or ''}".strip()
        subparser = Parser(description=text, allow_abbrev=False)
        _add_options(subparser, command)
        subcommands.add_subcommand(_name(command), subparser, help=about.short_description)
        subparser.words = arguments
        parsers[_name(command)] = subparser
    given = parser.parse_args(list(arguments))
    chosen = next(command for command in commands if _name(command) == given.command)
    parsers[given.command].check(vars(given[given.command]))
    values = _collect(chosen, vars(given[given.command]))
    by_place = [values.pop(name) for name in list(values) if _is_by_place(inspect.signature(chosen).parameters[name])]
    chosen(*by_place, **values)


def _name(command: Callable[..., None]) -> str:
    """What a command is called; a function that would hide one of Python's has a _ at its end."""
    return command.__name__.rstrip("_")


def _is_by_place(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.POSITIONAL_ONLY


def _add_options(parser: Parser, owner: Callable[..., Any]) -> None:
    helps = documented(owner)
    hints = get_type_hints(owner.__init__ if inspect.isclass(owner) else owner)
    for name, parameter in inspect.signature(owner).parameters.items():
        kind: Any = hints[name]
        if dataclasses.is_dataclass(kind):
            _add_options(parser, kind)  # type: ignore[arg-type]
            continue
        options: dict[str, Any] = {"help": helps[name]}
        if len(members := [member for member in get_args(kind) if member is not type(None)]) == 1:
            [inner] = members
            if get_origin(kind) is list:
                _add_list(parser, name, inner, parameter, options)
                continue
            kind = inner if get_origin(kind) is Union or type(None) in get_args(kind) else kind
        if parameter.default is inspect.Parameter.empty:
            parser.add_argument(name, type=kind, **options)
        elif _is_by_place(parameter):
            parser.add_argument(name, type=kind, default=parameter.default, nargs="?", **options)
        elif kind is bool and parameter.default is False:
            parser.add_argument(_flag(name), action="store_true", **options)
        else:
            metavar = None if get_origin(kind) is Literal else name.rpartition("_")[2].upper()
            parser.add_argument(_flag(name), type=kind, default=parameter.default, metavar=metavar, **options)


def documented(owner: Callable[..., Any]) -> dict[str, str]:
    """What a function says of its parameters, or a dataclass and its bases of their fields."""
    owners = reversed(owner.__mro__) if inspect.isclass(owner) else [owner]
    docs = [docstring_parser.parse(inspect.cleandoc(one.__doc__ or "")) for one in owners]
    return {p.arg_name: " ".join((p.description or "").split()) for doc in docs for p in doc.params}


def optional(kind: type, *, without: Sequence[str] = ()) -> Any:
    """A dataclass with the fields of another, of which none need be given: None."""
    kept = [field for field in dataclasses.fields(kind) if field.name not in without]
    hints, helps = get_type_hints(kind), documented(kind)

    def check(self: Any) -> None:
        kind(**{f.name: getattr(self, f.name) for f in kept if getattr(self, f.name) is not None})

    fields = [(f.name, hints[f.name] | None, None) for f in kept]
    namespace = {"__post_init__": check}
    made = dataclasses.make_dataclass(kind.__name__, fields, namespace=namespace, frozen=True, kw_only=True)
    shown = {f.name: "" if f.default is None else f" By default {f.default}." for f in kept}
    made.__doc__ = f"{kind.__name__}.\n\nArgs:\n" + "\n".join(
        f"    {f.name}: {helps[f.name]}{shown[f.name]}" for f in kept
    )
    return made


def _add_list(parser: Parser, name: str, kind: Any, parameter: inspect.Parameter, options: dict[str, Any]) -> None:
    """Any number of values, and the option any number of times; without a default by place."""
    if parameter.default is inspect.Parameter.empty:
        parser.add_argument(name, type=kind, nargs="*", default=[], **options)
        return
    of = {"choices": get_args(kind)} if get_origin(kind) is Literal else {"type": kind, "metavar": name.upper()}
    # What extends a list extends the default too: `_collect` puts that in.
    parser.add_argument(_flag(name), action="extend", nargs="+", default=None, **of, **options)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _collect(owner: Callable[..., Any], values: dict[str, Any]) -> dict[str, Any]:
    """Arguments for `owner` out of all options, its dataclasses put together again."""
    hints = get_type_hints(owner.__init__ if inspect.isclass(owner) else owner)
    given = {}
    for name, parameter in inspect.signature(owner).parameters.items():
        if dataclasses.is_dataclass(hints[name]):
            try:
                given[name] = hints[name](**_collect(hints[name], values))
            except UserError as error:  # it begins with the field
                raise UsageError(re.sub(r"^\w+", lambda found: _flag(found[0]), str(error))) from None
        elif values[name] is not None or parameter.default is None:
            given[name] = values[name]
    return given
