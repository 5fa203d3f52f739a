"""Checksums in the files: every bit counts, other programs read on, and what carries none is said."""

import json
import os
import random
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors
import sentencepiece
import torch
import yaml

from transformer_zoo.checksums import (
    MARK,
    UncheckedWarning,
    read_fields,
    read_sealed,
    verify,
    write_fields,
    write_sealed,
)
from transformer_zoo.errors import UserError
from transformer_zoo.runs.recipe import load_recipe, save_recipe
from transformer_zoo.tokenizers import TranslationTokenizer, TranslationTokenizerSettings
from transformer_zoo.training.checkpoint import Checkpoints, Progress
from transformer_zoo.training.weights import load_weights, save_weights

LINES = ["one two three", "four five six"]


def write_all(folder: Path) -> dict[str, Any]:
    """A file of each kind, and how it is read."""
    save_weights(folder / "w.safetensors", {"w": torch.arange(5.0), "v": torch.arange(3)})
    Checkpoints(folder).save(Progress(step=4), {"model": {"w": torch.arange(7.0)}})
    save_recipe(folder / "config.yaml", {"a": {"b": [1, "ä"]}})
    write_fields(folder / "model.json", {"a": 1})
    TranslationTokenizer.train(LINES, LINES, TranslationTokenizerSettings(vocab_size=30)).save(folder)
    return {
        "w.safetensors": load_weights,
        "checkpoints/last.pt": lambda path: Checkpoints(path.parent.parent).load(),
        "config.yaml": load_recipe,
        "model.json": read_fields,
        "source.sentencepiece.model": lambda path: TranslationTokenizer.load(path.parent),
        "tokenizer_kind.json": lambda path: TranslationTokenizer.load(path.parent),
    }


def same(one: Any, two: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[name], two[name]) for name in one)
    if isinstance(one, TranslationTokenizer):
        return one.source.model == two.source.model
    if isinstance(one, tuple):
        return all(map(same, one, two))
    return bool((one == two).all()) if isinstance(one, torch.Tensor) else bool(one == two)


def noticed(read: Any, path: Path, whole: Any) -> str:
    """The line that reading gives; where it only warns, what was read must be the whole."""
    with warnings.catch_warnings(record=True, action="always", category=UncheckedWarning) as found:
        try:
            again = read(path)
        except UserError as error:
            return str(error)
    assert whole is None or same(again, whole)
    return " ".join(str(warning.message) for warning in found)


@pytest.mark.parametrize(
    "name",
    [
        "w.safetensors",
        "checkpoints/last.pt",
        "config.yaml",
        "model.json",
        "source.sentencepiece.model",
        "tokenizer_kind.json",
    ],
)
def test_each_bit_is_noticed_or_without_effect(name: str, tmp_path: Path) -> None:
    read, path, draw = write_all(tmp_path)[name], tmp_path / name, random.Random(1)
    whole, content = read(path), path.read_bytes()
    assert read_sealed(path) == content
    places = [*range(min(len(content), 150)), *range(len(content) - 40, len(content))]
    for place in [*places, *draw.sample(range(len(content)), min(100, len(content)))]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        said = noticed(read, path, whole)
        assert path.name in said, f"byte {place}: {said}"
        assert "\n" not in said


def test_other_programs_read_on(tmp_path: Path) -> None:
    write_all(tmp_path)
    with safetensors.safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert file.get_tensor("w").tolist() == [0, 1, 2, 3, 4]
    assert zipfile.ZipFile(tmp_path / "checkpoints" / "last.pt").testzip() is None
    assert torch.load(tmp_path / "checkpoints" / "last.pt")["progress"]["step"] == 4
    assert yaml.safe_load((tmp_path / "config.yaml").read_text("utf-8")) == {"a": {"b": [1, "ä"]}}
    assert json.loads((tmp_path / "model.json").read_text())["a"] == 1
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "source.sentencepiece.model"))
    ours = TranslationTokenizer.load(tmp_path).source
    assert pieces.encode(LINES) == ours.encode_batch(LINES)


@pytest.mark.parametrize("before", [0, 3, 4096 - len(MARK), 200_000, 1 << 18])
@pytest.mark.parametrize("after", [0, 7, 64 - len(MARK), 5000])
def test_the_mark_may_stand_anywhere_at_an_end(before: int, after: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = b"x" * before + MARK.encode() + b"y" * after
    if before > 4096 - len(MARK) and after > 64 - len(MARK):
        path.write_bytes(content)
        with pytest.warns(UncheckedWarning):
            assert verify(path) is None
        return
    write_sealed(path, lambda part: part.write_bytes(content))
    assert verify(path) == path.read_bytes()[before + 8 : before + 24].decode()
    assert read_sealed(path) == path.read_bytes()
    for place in {0, before // 2, before + 8, len(content) - 1}:
        flipped = bytearray(path.read_bytes())
        flipped[place] ^= 1
        (tmp_path / "flipped").write_bytes(flipped)
        for read in (verify, read_sealed):
            assert "flipped" in noticed(read, tmp_path / "flipped", None)


def test_what_was_changed_by_hand_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    save_recipe(path, {"seed": 1})
    changed = path.read_text().replace("seed: 1", "seed: 2")
    path.write_text(changed)
    with pytest.raises(UserError, match=r"changed after it was written.*remove its first line if you changed it"):
        load_recipe(path)
    path.write_text(changed.partition("\n")[2])
    with pytest.warns(UncheckedWarning, match=r"config\.yaml carries no checksum"):
        assert load_recipe(path) == {"seed": 2}


NONE = ["", "[]", "null", "x", "1", "data: [1]", "test: x", "&a [*a]", "a: !!python/name:os.system", "{", "\0"]


@pytest.mark.parametrize("content", NONE)
def test_a_recipe_that_is_none_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml is damaged") as refused:
        load_recipe(tmp_path / "config.yaml")
    assert "\n" not in str(refused.value)


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder", "nothing"):
        for read in (verify, load_weights, load_recipe):
            with pytest.raises(UserError, match=name):
                read(tmp_path / name)  # type: ignore[operator]


def test_importing_it_needs_no_torch() -> None:
    code = "import sys, transformer_zoo.checksums; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
