"""A command line made from typed functions: signatures become options, docstrings become --help."""

import dataclasses
import inspect
import re
from argparse import REMAINDER
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import docstring_parser

from transformer_zoo.commandline.parser import Parser
from transformer_zoo.errors import UsageError, UserError
from transformer_zoo.lent import described

Call = Callable[..., Any]


def run_command(
    commands: Sequence[Call],
    arguments: Sequence[str],
    *,
    prog: str,
    about: str,
    version: str,
    examples: Sequence[str] = (),
) -> None:
    """Run the function of `commands` that the first argument names, with the options that follow."""
    parser = Parser(prog=prog, description=about, allow_abbrev=False)
    parser.examples = examples
    parser.subcommands = {_name(command): str(_documented(command).short_description) for command in commands}
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    parsers = {}
    subcommands = parser.add_subcommands(required=True, dest="command", metavar="COMMAND")
    for command in commands:
        subparser = make_parser(command, arguments)
        subcommands.add_subcommand(_name(command), subparser)
        parsers[_name(command)] = subparser
    given = parser.parse_args(list(arguments))
    chosen = next(command for command in commands if _name(command) == given.command)
    call = _bound(chosen, parsers[given.command], given[given.command].as_dict())
    chosen(*call.args, **call.kwargs)


def parse_call(function: Call, arguments: Sequence[str]) -> inspect.BoundArguments:
    """The arguments of a function from this command line, with default values for those that it does not give."""
    parser = make_parser(function, arguments)
    call = _bound(function, parser, parser.parse_args(list(arguments)).as_dict())
    call.apply_defaults()
    return call


def make_parser(function: Call, arguments: Sequence[str]) -> Parser:
    """A parser of the function's parameters, for this command line.

    A parameter without a default is positional, and so is one before a `/`. A list takes any number of values. The
    fields of a dataclass parameter become options; a `bool` is a flag; `*words` takes all words that follow unchanged.
    """
    about = _documented(function)
    text = f"{about.short_description} {about.long_description or ''}".strip()
    parser = Parser(description=text, allow_abbrev=False)
    parser.words, parser.examples = arguments, examples_of(function)
    _add_options(parser, function)
    return parser


def _bound(function: Call, parser: Parser, given: Mapping[str, Any]) -> inspect.BoundArguments:
    parser.check(given)
    return inspect.BoundArguments(inspect.signature(function), _collect(function, given))


def _documented(function: Call) -> docstring_parser.Docstring:
    return docstring_parser.parse(inspect.getdoc(function) or "")


def examples_of(owner: Call) -> list[str]:
    """The command lines under "Examples:" in the docstring of a command or of a recipe."""
    return [line for example in _documented(owner).examples for line in (example.description or "").splitlines()]


def _name(command: Call) -> str:
    """The name of a command; a function that would hide one of Python's names has a _ at its end."""
    return command.__name__.rstrip("_")


def _add_options(parser: Parser, owner: Call) -> None:
    for name, parameter in inspect.signature(owner, eval_str=True).parameters.items():
        if inspect.isclass(kind := parameter.annotation) and dataclasses.is_dataclass(kind):
            _add_options(parser, kind)
        else:
            _add_option(parser, parameter, kind, described(owner)[name])


def _add_option(parser: Parser, parameter: inspect.Parameter, kind: Any, about: str) -> None:
    name, default = parameter.name, parameter.default
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        parser.add_argument(name, nargs=REMAINDER, help=about)
        return
    if len(members := [member for member in get_args(kind) if member is not type(None)]) == 1:
        if get_origin(kind) in (list, Sequence):
            _add_list(parser, parameter, members[0], about)
            return
        kind = members[0] if get_origin(kind) is Union or type(None) in get_args(kind) else kind
    if default is inspect.Parameter.empty:
        parser.add_argument(name, type=kind, help=about)
    elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        parser.add_argument(name, type=kind, default=default, nargs="?", help=about)
    elif kind is bool and default is False:
        parser.add_argument(_flag(name), dest=name, action="store_true", help=about)
    else:
        parser.add_argument(_flag(name), dest=name, type=kind, default=default, help=about)


def _add_list(parser: Parser, parameter: inspect.Parameter, kind: Any, about: str) -> None:
    """An option with any number of values, which may be given several times; without a default it is positional."""
    name = parameter.name
    if parameter.default is inspect.Parameter.empty:
        parser.add_argument(name, type=kind, nargs="*", default=[], help=about)
        return
    of = {"choices": get_args(kind)} if get_origin(kind) is Literal else {"type": kind}
    # An option that extends a list would extend the default too, so `_collect` adds the default.
    parser.add_argument(_flag(name), dest=name, action="extend", nargs="+", default=None, **of, help=about)


def _flag(name: str) -> str:
    return "--" + name.rstrip("_").replace("_", "-")


def _collect(owner: Call, values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for `owner` from all options, with its dataclasses put together again."""
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(owner, eval_str=True).parameters.items():
        if inspect.isclass(kind := parameter.annotation) and dataclasses.is_dataclass(kind):
            try:
                given[name] = kind(**_collect(kind, values))
            except UserError as error:  # the text begins with the field
                raise UsageError(re.sub(r"^\w+", lambda found: _flag(found[0]), str(error))) from None
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            given[name] = tuple(values[name] or ())
        elif values[name] is not None or parameter.default is None:
            given[name] = values[name]
    return given
