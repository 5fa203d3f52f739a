"""Options of the benchmarks: a number of rounds, tokens or threads that cannot be is refused before anything runs."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "benchmarks"
COUNTS = [
    (file.stem, option)
    for file in sorted(FOLDER.glob("*.py"))
    if "import parsed" in file.read_text("utf-8")
    for option in re.findall(r'add\("(--[\w-]+)"[^\n]*type=int', file.read_text("utf-8"))
    if option != "--seed"
]

NEEDED = {"chat": ["runs/some"], "guard": ["--old", "abc1234"]}


def test_there_are_counts() -> None:
    assert {("zoo", "--large"), ("guard", "--rounds"), ("serving", "--clients"), ("chat", "--threads")} <= {*COUNTS}


@pytest.mark.parametrize(("name", "option"), COUNTS)
@pytest.mark.parametrize("value", ["0", "-5"])
def test_a_count_is_at_least_one(
    name: str, option: str, value: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "argv", [name])
    module = import_module(f"recipes.benchmarks.{name}")
    read = getattr(module, "parse_options", None) or module.main
    with pytest.raises(SystemExit) as refused:
        read([*NEEDED.get(name, []), f"{option}={value}"])
    assert refused.value.code == 2
    least = 2 if name in ("guard", "kernels") and option == "--rounds" else 1
    assert f"{option} must be at least {least}" in capsys.readouterr().err
