"""The comparison of first runs: its text, its recipes and its verdict; the training itself is made small."""

import json
import subprocess
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from transformer_zoo.commandline import parse_recipe
from transformer_zoo.training.tasks.translation_recipe import TranslationRecipe

from .shown import shown

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return import_module("recipes.benchmarks.first_run")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Some thousand short pairs, as Tatoeba's file has them."""
    folder = tmp_path / "tatoeba"
    folder.mkdir()
    lines = [f"I have {i} cats.\tIch habe {i} Katzen.\tby me\n" for i in range(3000)]
    (folder / "eng-deu.tsv").write_text("".join(lines), "utf-8")
    return folder


def test_no_held_out_sentence_is_in_the_training_text(script: Any, corpus: Path, tmp_path: Path) -> None:
    script.write_pairs(corpus, tmp_path)
    parts = {name: (tmp_path / f"{name}.tsv").read_text("utf-8").splitlines() for name in ("pairs", "held_out", "test")}
    assert all(parts.values())
    for held_out in ("held_out", "test"):
        for side in (0, 1):
            seen = {line.split("\t")[side] for line in parts["pairs"]}
            assert not seen & {line.split("\t")[side] for line in parts[held_out]}


@pytest.mark.parametrize("side", ["new", "tuned"])
def test_a_side_trains_readmes_lines_by_the_clock_alone(
    script: Any, side: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.write_pairs(corpus, tmp_path)
    path = script.recipe(ROOT, tmp_path, side, 7, 2.5)
    fields = yaml.safe_load(path.read_text("utf-8"))
    assert "max_epochs" not in fields["training"]
    monkeypatch.chdir(tmp_path)
    parsed = parse_recipe(TranslationRecipe, [str(path)])
    parsed.validate()
    assert (parsed.seed, parsed.training.max_minutes, list(parsed.data.tests)) == (7, 2.5, ["test"])
    if side == "tuned":
        assert (parsed.model.d_model, parsed.optimizer.weight_decay) == (160, 0.1)
    else:
        assert parsed.optimizer.lr is parsed.schedule.warmup is parsed.checkpoint.final_weights is None


def test_the_verdict_is_what_was_asked(script: Any) -> None:
    assert "asked: 6.00, twice that of old, 3.00; new: 7.00, reached" in script.verdict({"old": 3.0, "new": 7.0})
    assert "not reached" in script.verdict({"old": 3.0, "new": 5.9, "tuned": 1.0})
    tuned = script.verdict({"old": 7.0, "new": 10.0, "tuned": 11.0})
    assert "asked: 9.90, nine tenths of tuned, 11.00; new: 10.00, reached" in tuned
    assert "both needed" in script.verdict({"new": 1.0})


@pytest.mark.slow
def test_runs_are_made_once_and_reported(script: Any, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--tatoeba", str(corpus), "--minutes", "0.05", "--seeds", "1", "--out", str(out), "--old", "HEAD"]
    script.main(words)
    folder = out / "0.05_minutes"
    written = {path: path.read_bytes() for path in folder.glob("*/model.safetensors")}
    assert len(written) == 3
    script.main(words)
    assert written == {path: path.read_bytes() for path in written}
    found = json.loads((folder / "results.json").read_text("utf-8"))
    assert "asked" in found["verdict"]
    assert "| A Machine | new |" in shown("first-run", found, tmp_path)
    subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", out / "worktree_HEAD"], check=True)
