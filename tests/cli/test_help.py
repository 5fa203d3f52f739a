"""--help of every command and every recipe: what a person needs first, in words, and at once."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformer_zoo.cli import all_commands, main
from transformer_zoo.commandline import parse_call, parse_recipe
from transformer_zoo.commandline.functions import examples_of, make_parser
from transformer_zoo.training.tasks.kinds import KINDS

COMMANDS = all_commands()
NOISE = re.compile(r"\btype:|\bnull\b|NoneType|PositiveInt|Literal\[|Union|list\[| \| |<class|==")
ENTRY = re.compile(r"^  (-\S+|\[?[A-Z]+\]?)", re.M)


def name_of(command: Callable[..., Any]) -> str:
    return command.__name__.rstrip("_")


@pytest.fixture(params=COMMANDS, ids=name_of)
def command(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def check(text: str) -> None:
    assert max(map(len, text.splitlines())) <= 100
    assert not NOISE.findall(text)
    headings = re.findall(r"^(Usage|Examples|Commands|Options|More options):", text, re.M)
    assert headings in (["Usage", "Examples", "Options", "More options"], ["Usage", "Examples", "Commands", "Options"])


def entries(part: str) -> list[str]:
    return ENTRY.findall(part)


def test_three_examples_whose_command_lines_parse(command: Any) -> None:
    lines = examples_of(command)
    assert len(lines) == len(set(lines)) == 3
    for line in lines:
        program, name, *words = shlex.split(line)
        assert (program, name) == ("transformer-zoo", name_of(command))
        call = parse_call(command, words)
        inspect.signature(command).bind(*call.args, **call.kwargs)


def test_what_the_examples_use_comes_first_and_all_is_explained(command: Any) -> None:
    parser = make_parser(command, [])
    text = parser.format_help()
    check(text)
    first, _, rest = text.partition("\nOptions:\n")[2].partition("\nMore options:\n")
    flags = {flag for _, action in parser.titled() for flag in action.option_strings if flag.startswith("--")}
    used = [word for word in dict.fromkeys(shlex.split(" ".join(examples_of(command)))) if word in flags]
    assert [entry for entry in entries(first) if entry.startswith("-")] == used
    assert not [entry for entry in entries(rest) if not entry.startswith("-")]
    assert flags == {entry for entry in entries(first + rest) if entry.startswith("--")}
    assert [action.dest for _, action in parser.titled() if len((action.help or "").split()) < 2] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_recipes_help_is_in_words_too(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse_recipe(kind.recipe, ["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    check(text)
    lines = examples_of(kind.recipe)
    assert len(lines) == 3
    first = text.partition("\nOptions:\n")[2].partition("\n\n")[0]
    assert set(entries(first)) == {word for line in lines for word in line.split() if word.startswith("--")}
    for line in ("  --training.max_minutes NUMBER\n", "  --seed N ", "\ncheckpoint (", "\nmodel (", "by default"):
        assert line in text


def test_the_first_help_names_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    check(text)
    listed = text.partition("\nCommands:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\w+)", listed, re.M) == [name_of(command) for command in COMMANDS]
    examples = text.partition("\nExamples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) == 3
    for _, name, *words in map(shlex.split, examples):
        parse_call(next(command for command in COMMANDS if name_of(command) == name), words)


def test_help_comes_within_a_second_and_without_torch() -> None:
    """CPU time of every command; the first includes the start of Python. Others use the CPU as well."""
    code = """
import contextlib, io, sys, time
from transformer_zoo.cli import all_commands, main
before = 0.0
for command in all_commands():
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main([command.__name__.rstrip("_"), "--help"])
    now = time.process_time()
    print(command.__name__, now - before)
    before = now
print("torch", float("torch" in sys.modules))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    found = {name: float(number) for name, number in map(str.split, done.stdout.splitlines())}
    assert found.pop("torch") == 0
    assert len(found) == len(COMMANDS)
    assert {name: seconds for name, seconds in found.items() if seconds >= 1} == {}
