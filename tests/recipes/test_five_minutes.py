"""The comparison of what is chosen with what is tuned: its texts, its command lines, its verdicts."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from transformer_zoo.cli.train import train
from transformer_zoo.commandline import parse_call

from .shown import shown


@pytest.fixture(scope="module")
def script() -> Any:
    return import_module("recipes.benchmarks.five_minutes")


@pytest.fixture
def corpora(tmp_path: Path) -> list[str]:
    lines = [f"I have {i} cats.\tIch habe {i} Katzen.\tby me\n" for i in range(3000)]
    (tmp_path / "eng-deu.tsv").write_text("".join(lines), "utf-8")
    (tmp_path / "input.txt").write_text("".join(f"{i}:\nTo be, or not to be {i}.\n\n" for i in range(3000)), "utf-8")
    return ["--tatoeba", str(tmp_path), "--shakespeare", str(tmp_path)]


def test_the_verdicts_are_what_was_asked(script: Any) -> None:
    assert script.verdict("tatoeba", {"tuned": [20.0], "chosen": [19.0]}).endswith("0.95: reached")
    assert script.verdict("tatoeba", {"tuned": [20.0], "chosen": [18.9]}).endswith("0.95: not reached")
    assert script.verdict("shakespeare", {"tuned": [2.0], "chosen": [2.1]}).endswith("1.05: reached")
    assert script.verdict("shakespeare", {"tuned": [2.0], "chosen": [2.11]}).endswith("1.05: not reached")


def test_the_command_lines_are_those_of_train(script: Any) -> None:
    for sides in script.TRAIN.values():
        assert Path(sides["tuned"][0]).is_file()
        call = parse_call(train, [*sides["chosen"], "--output", "x", "--minutes", "5", "--seed", "1"])
        assert call.arguments["minutes"] == 5


@pytest.mark.slow
def test_runs_are_made_once_and_reported(script: Any, corpora: list[str], tmp_path: Path) -> None:
    words = [*corpora, "--minutes", "0.02", "--seeds", "1", "--out", str(tmp_path / "out")]
    script.main(words)
    folder = tmp_path / "out" / "0.02_minutes"
    assert len((folder / "data" / "tatoeba" / "first_20k.en").read_text().splitlines()) > 2000
    written = {path: path.read_bytes() for path in folder.glob("runs/*/model.safetensors")}
    assert len(written) == 4
    script.main(words)
    assert written == {path: path.read_bytes() for path in written}
    results = json.loads((folder / "results.json").read_text())
    assert "| shakespeare | chosen | bits per byte |" in shown("five-minutes", results, tmp_path)
    assert all(value >= 0 for sides in results["scores"].values() for [value] in sides.values())
