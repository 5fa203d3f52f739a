"""`transformer-zoo train`, `recipes`, `prepare`: what comes with the package, listed, copied and run."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.faults.tiny import write_recipe
from transformer_zoo.cli import main
from transformer_zoo.training.tasks.kinds import kind_of_recipe

DECAY = {"translation": [], "gpt": ["--schedule.decay", "1"], "masked": ["--schedule.decay", "1"]}  # within two updates
SHIPPED = sorted(Path(__file__).resolve().parents[2].glob("recipes/*/*.yaml"))


def status(*words: str) -> int:
    """The status of the command, whether it returns or exits."""
    try:
        return main(words)
    except SystemExit as left:
        return int(left.code or 0)


@pytest.mark.parametrize("kind", DECAY)
def test_a_recipe_of_any_kind_is_trained(kind: str, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, kind)
    assert status("train", str(recipe), "--training.max_updates", "2", "--seed=7", *DECAY[kind]) == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())["step"] == 2
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["seed"] == 7


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_kind_of_every_shipped_recipe_is_that_of_its_folder(path: Path) -> None:
    assert kind_of_recipe(yaml.safe_load(path.read_text("utf-8"))).recipes == f"recipes/{path.parent.name}"


def test_a_recipe_that_is_none_is_status_2_and_a_wrong_field_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("train", str(tmp_path / "none.yaml")) == 2
    assert "transformer-zoo recipes" in capsys.readouterr().err
    recipe = write_recipe(tmp_path, "gpt")
    for words, code, said in ((["--seeed", "2"], 2, "did you mean seed?"), (["--device", "cuda:99"], 1, "cuda:99")):
        assert status("train", str(recipe), *words) == code
        assert said in capsys.readouterr().err


def test_help_after_a_recipe_explains_its_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("train", str(write_recipe(tmp_path, "translation")), "--help") == 0
    assert "label_smoothing" in capsys.readouterr().out


def test_recipes_are_listed_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status("recipes") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [path.stem for path in SHIPPED]
    assert status("recipes", "numbers") == 0
    assert status("recipes", "multi30k", "--output", "mine.yaml") == 0
    shipped = {path.stem: path.read_bytes() for path in SHIPPED}
    assert Path("numbers.yaml").read_bytes() == shipped["numbers"]
    assert Path("mine.yaml").read_bytes() == shipped["multi30k"]
    assert status("recipes", "numbers") == 1  # what is there stays
    assert status("recipes", "nummers") == 2
    assert "did you mean numbers?" in capsys.readouterr().err


def test_corpora_are_listed_and_written_where_recipes_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status("prepare") == 0
    assert {"numbers", "multi30k", "python_source"} <= {
        line.split()[0] for line in capsys.readouterr().out.splitlines()
    }
    (tmp_path / "input.txt").write_text("To be, or not to be.\n" * 20, "utf-8")
    assert status("prepare", "tinyshakespeare", "--from", ".") == 0
    assert sorted(path.name for path in Path("data/tinyshakespeare").iterdir()) == ["train.txt", "val.txt"]
    assert status("prepare", "tinyshakespeare", "--from", ".", "--out=here") == 0
    assert (Path("here") / "val.txt").read_bytes() == Path("data/tinyshakespeare/val.txt").read_bytes()
    assert status("prepare", "tinyshakespeare", "--from", "nowhere", "--out", "empty") == 1
    assert not Path("empty").exists()
    assert status("prepare", "shakespear") == 2
    assert status("prepare", "tinyshakespeare", "--help") == 0
    assert "input.txt" in capsys.readouterr().out


def test_each_recipe_s_program_exists_once(root: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    assert sorted(name for name in listed if re.search(r"(?<!cli)/train\.py$", name)) == [
        "recipes/gpt/train.py",
        "recipes/masked/train.py",
        "recipes/translation/train.py",
    ]
