"""A run knows its texts by their content: moved they are the same, replaced they are refused or said."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.tiny import main_of, write_recipe
from transformer_zoo.cli import main as command
from transformer_zoo.errors import UserError
from transformer_zoo.runs.recipe import save_recipe


@pytest.fixture(params=["translation", "gpt"])
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def train(recipe: str, tmp_path: Path) -> Callable[..., None]:
    main, path = main_of(recipe), write_recipe(tmp_path, recipe)
    return lambda *words: main([str(path), *map(str, words)])


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def move(folder: Path, recipe: str) -> None:
    """All texts in another folder, which the recipe names."""
    (folder / "moved").mkdir()
    for path in [*folder.glob("*.en"), *folder.glob("*.de"), *folder.glob("*.txt")]:
        path.rename(folder / "moved" / path.name)
    fields = (folder / f"{recipe}.yaml").read_text("utf-8")
    for name in ("train", "val", "test"):
        fields = fields.replace(f"{folder}/{name}.", f"{folder}/moved/{name}.")
    (folder / f"{recipe}.yaml").write_text(fields, "utf-8")


def test_texts_that_were_moved_are_the_same(recipe: str, train: Any, tmp_path: Path) -> None:
    train("--training.max_updates", 8)
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    train("--run_dir", tmp_path / "whole")
    move(tmp_path, recipe)
    train()
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    results = (tmp_path / "run" / "results.json").read_bytes()
    shutil.move(tmp_path / "moved", tmp_path / "again")
    text = (tmp_path / f"{recipe}.yaml").read_text("utf-8").replace("/moved/", "/again/")
    (tmp_path / f"{recipe}.yaml").write_text(text, "utf-8")
    train()
    assert (tmp_path / "run" / "results.json").read_bytes() == results


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_text_that_was_replaced_is_refused_before_anything_is_written(
    recipe: str, split: str, train: Any, tmp_path: Path
) -> None:
    train("--training.max_updates", 8)
    name = {"train": "train", "validation": "val"}[split] + (".txt" if recipe == "gpt" else ".de")
    content, run_dir = (tmp_path / name).read_text("utf-8"), tmp_path / "run"
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    other = content.replace("cat", "dog") if recipe == "gpt" else content.replace("Katze", "Hund")
    assert other != content
    times = (tmp_path / name).stat()
    (tmp_path / name).write_text(other, "utf-8")
    os.utime(tmp_path / name, ns=(times.st_atime_ns, times.st_mtime_ns))  # whatever the clock says
    with pytest.raises(UserError, match=rf"was trained with another text than data\.{split} is now"):
        train()
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before
    (tmp_path / name).write_text(content, "utf-8")
    shutil.copytree(run_dir, tmp_path / "whole")
    train()
    assert weights(run_dir) != weights(tmp_path / "whole")  # it goes on


def test_another_test_is_said_and_scored(tmp_path: Path) -> None:
    main, path = main_of("translation"), str(write_recipe(tmp_path, "translation"))
    main([path, "--training.max_updates", "8"])
    lines = (tmp_path / "test.en").read_text("utf-8")
    (tmp_path / "test.en").write_text(lines.replace("cat", "dog"), "utf-8")
    with pytest.warns(UserWarning, match=r"data\.tests\.words is another text than before"):
        main([path])
    assert (tmp_path / "run" / "test" / "words.src").read_text("utf-8") == lines.replace("cat", "dog")
    (tmp_path / "test.en").write_text(lines, "utf-8")
    with pytest.warns(UserWarning, match=r"data\.tests\.words is another text than before"):
        main([path])  # it had been finished
    assert (tmp_path / "run" / "test" / "words.src").read_text("utf-8") == lines


@pytest.mark.parametrize("name", ["../../pwn", "/tmp/pwn", "a/b", "..", ""])
def test_a_stranger_s_names_of_tests_write_nothing(tmp_path: Path, name: str, capsys: Any) -> None:
    main, path = main_of("translation"), str(write_recipe(tmp_path, "translation"))
    main([path, "--training.max_updates", "1"])
    config = tmp_path / "run" / "config.yaml"
    fields = yaml.safe_load(config.read_text("utf-8"))
    fields["data"]["tests"] = {name: fields["data"]["tests"]["words"]}
    save_recipe(config, fields)
    before = sorted(tmp_path.parent.rglob("*"))
    assert command(["evaluate", str(tmp_path / "run")]) == 1
    assert "cannot be a file name" in capsys.readouterr().err
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_kept_test_that_was_changed_is_not_scored(tmp_path: Path, capsys: Any) -> None:
    main, path = main_of("translation"), str(write_recipe(tmp_path, "translation"))
    main([path, "--training.max_updates", "1"])
    kept = tmp_path / "run" / "test" / "words.ref"
    kept.write_text(kept.read_text("utf-8").replace("Hund", "Hand"), "utf-8")
    assert command(["evaluate", str(tmp_path / "run")]) == 1
    assert "words.ref is damaged" in capsys.readouterr().err
