"""What the scripts data/<corpus>/prepare.py share: reading pairs, writing splits, the command line."""

import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..errors import UserError


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes one sentence a line (UTF-8, \\n), beside `path`, synced, then renamed: never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    with beside.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def write_split(out: Path, name: str, columns: dict[str, list[str]]) -> None:
    """Writes `name`.`language` for every language and says how many; line i of each belongs together.

    Raises UserError if the languages differ in length.
    """
    lengths = {language: len(lines) for language, lines in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{language} {length:,}" for language, length in lengths.items())
        raise UserError(
            f"split {name!r}: the languages differ in their number of lines ({found}); not written"
        )
    for language, lines in columns.items():
        write_lines(out / f"{name}.{language}", lines)
    print(f"{out / name}.{{{','.join(columns)}}}: {next(iter(lengths.values())):,} pairs")


# What jsonargparse cannot read off a signature: `from` is a keyword of Python, a list takes several words.
BY_HAND: dict[str, dict[str, Any]] = {
    "from_": {"flag": "--from", "type": Path | None, "metavar": "DIR"},
    "languages": {"flag": "--languages", "type": str, "nargs": "+"},
}


def run(prepare: Callable[..., None]) -> None:
    """Calls a script's `prepare` with what the command line says; its docstring and types are the --help.

    A parameter `from_` becomes `--from`, and `languages` takes several words. A UserError ends in one line on
    standard error and exit status 1, a bad option in status 2.
    """
    import docstring_parser  # only a command line needs these two
    from jsonargparse import ArgumentParser

    documented = docstring_parser.parse(inspect.getdoc(prepare) or "")
    helps = {parameter.arg_name: parameter.description for parameter in documented.params}
    signature = inspect.signature(prepare).parameters
    by_hand = {name: dict(options) for name, options in BY_HAND.items() if name in signature}
    parser = ArgumentParser(description=documented.description, allow_abbrev=False)
    for name, options in by_hand.items():
        flag = options.pop("flag")
        parser.add_argument(flag, dest=name, default=signature[name].default, help=helps[name], **options)
    parser.add_function_arguments(prepare, as_group=False, skip=set(by_hand))
    arguments = vars(parser.parse_args())
    try:
        prepare(**arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
