"""The GPT recipe from raw text to results.json, and the recipes that ship."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from transformer_zoo.commandline import parse_recipe
from transformer_zoo.config import DecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.runs.load import load_run
from transformer_zoo.training.overrides import overridden
from transformer_zoo.training.tasks.language import GptRecipe, model_config
from transformer_zoo.zoo import get_config

from .shown import shown

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "recipes" / "gpt" / "train.py"
RECIPES = sorted(SCRIPT.parent.glob("*.yaml"))
VERSE = "the cat sat on the mat, and the dog lay by the door.\n"


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("train_gpt", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of a few seconds over a verse that is repeated."""
    (tmp_path / "train.txt").write_text(VERSE * 40, "utf-8")
    (tmp_path / "val.txt").write_text(VERSE * 3, "utf-8")
    fields = {
        "run_dir": str(tmp_path / "run"),
        "device": "cpu",
        "precision": "float32",
        "data": {"train": {"path": str(tmp_path / "train.txt")}, "validation": {"path": str(tmp_path / "val.txt")}},
        "model": {"preset": "gpt-modern", "d_model": 32, "d_ff": 64, "n_heads": 2, "n_layers": 2, "max_seq_len": 16},
        "optimizer": {"name": "muon", "lr": 0.01, "weight_decay": 0.1},
        "schedule": {"name": "wsd", "warmup": 2, "decay": 5},
        "training": {"batch_tokens": 64, "update_tokens": 128, "max_updates": 12, "log_every": 5},
        "validation": {"every": 6, "sample_tokens": 7},
        "checkpoint": {"every": 4, "average_last": 1, "final_weights": "last"},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(fields), "utf-8")
    return path


@pytest.fixture
def train() -> Callable[..., None]:
    """The recipe's main, in this process."""
    main: Callable[[list[str]], None] = load_script().main
    return lambda *words: main([str(word) for word in words])


def test_from_text_to_results(recipe: Path, train: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe)
    run = tmp_path / "run"
    results = json.loads((run / "results.json").read_text())
    assert (results["step"], results["ended_by"]) == (12, "max_updates")
    assert f"| A Machine | {results['validation']['loss']:.4f} |" in shown("speedrun", results, tmp_path)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    valid = [line for line in lines if line["kind"] == "valid"]
    assert [line["step"] for line in valid] == [6, 12]
    assert results["validation"]["loss"] == pytest.approx(valid[-1]["loss"])
    # Every token of the text but the first is foretold once, end-of-text included.
    n_bytes = len(VERSE * 3)
    assert valid[-1]["bits_per_byte"] == pytest.approx(valid[-1]["loss"] / 0.693147 * n_bytes / n_bytes, rel=1e-3)
    assert sum(line["tokens"] for line in lines if line["step"] == 12 and line["kind"] == "train") == 12 * 128
    assert (run / "samples.txt").read_text().count("== update") == 2
    loaded = load_run(run)
    assert isinstance(loaded.model.config, DecoderConfig)
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("the door")) == "the door"
    assert "transformer-zoo generate" in capsys.readouterr().out
    train(recipe)
    assert "is finished" in capsys.readouterr().out


def test_a_run_that_goes_on_ends_in_the_same_weights(recipe: Path, train: Any, tmp_path: Path) -> None:
    constant = ["--schedule.name", "constant", "--schedule.decay", "null", "--model.dropout", "0.1"]
    train(recipe, *constant)
    again = [*constant, "--run_dir", tmp_path / "again"]
    train(recipe, *again, "--training.max_updates", 7)
    train(recipe, *again)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "again"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_does_not_go_on_with_a_text_that_was_changed(recipe: Path, train: Any, tmp_path: Path) -> None:
    train(recipe, "--training.max_updates", 7)
    text = tmp_path / "train.txt"
    text.write_text(text.read_text()[::-1])
    with pytest.raises(UserError, match=r"trained with another text than data\.train is now"):
        train(recipe)


@pytest.mark.slow
def test_killed_and_started_again_it_ends_in_the_same_weights(recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(recipe), "--training.max_updates", "60", "--training.log_every", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--run_dir", str(tmp_path / "whole")], env=environment, check=True, capture_output=True)
    killed = [*command, "--run_dir", str(tmp_path / "killed")]
    last = tmp_path / "killed" / "checkpoints" / "last.pt"
    process = subprocess.Popen(killed, env=environment, stdout=subprocess.DEVNULL)
    while not last.exists():
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(killed, env=environment, check=True, capture_output=True)
    whole, again = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.slow
def test_a_small_text_is_learnt_by_heart(recipe: Path, train: Any, tmp_path: Path) -> None:
    train(recipe, "--training.max_updates", 300, "--schedule.decay", 100, "--validation.every", 300)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["validation"]["loss"] < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.preset", "transformer-base"], "transformer-base is an encoder-decoder"),
        (["--training.batch_tokens", "8"], "training.batch_tokens 8 is less than a window of 16"),
        (["--data.train.path", "nowhere.txt"], "data.train: nowhere.txt"),
        (["--data.length", "0"], "data.length is 0"),
        (["--validation.sample_tokens", "0"], "validation.sample_tokens is 0"),
        (["--tokenizer.training_characters", "-1"], "tokenizer.training_characters is -1"),
        (["--model.positions", "learned", "--data.length", "17"], "data.length 17 is more than the 16 positions"),
    ],
)
def test_what_is_refused_before_anything_is_written(
    recipe: Path, train: Any, tmp_path: Path, options: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(recipe, *options)
    assert not (tmp_path / "run").exists()


def test_a_run_inside_its_own_text_is_refused(recipe: Path, train: Any, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text(VERSE, "utf-8")
    here = ["--data.train.path", str(tmp_path / "text")]
    with pytest.raises(UserError, match=r"run_dir: .* is in .*text, whose files are all text of data\.train"):
        train(recipe, *here, "--run_dir", str(tmp_path / "text" / "run"))
    with pytest.raises(UserError, match=r"data\.tokens: .* is in .*text, whose files"):
        train(recipe, *here, "--data.tokens", str(tmp_path / "text" / "tokens"))
    assert [path.name for path in (tmp_path / "text").iterdir()] == ["a.txt"]


def test_a_prompt_or_text_that_cannot_be_is_refused_before_training(recipe: Path, train: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"validation\.prompt: .*'é'"):
        train(recipe, "--tokenizer.kind", "characters", "--validation.prompt", "é")
    assert not (tmp_path / "run" / "checkpoints").exists()
    (tmp_path / "val.txt").write_text("t", "utf-8")
    with pytest.raises(UserError, match=r"data\.validation: .*val\.txt is a single token"):
        train(recipe, "--tokenizer.kind", "characters", "--tokenizer.end_of_text", "false")


def test_a_model_reads_no_more_than_it_was_trained_on(recipe: Path) -> None:
    length = ["--data.length", "11"]
    given = parse_recipe(GptRecipe, [str(recipe), *length])
    assert model_config(given).max_seq_len == 16
    silent = parse_recipe(GptRecipe, [str(recipe), *length, "--model.max_seq_len", "preset"])
    assert model_config(silent).max_seq_len == 11


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_recipes_that_ship(path: Path) -> None:
    recipe = parse_recipe(GptRecipe, [str(path)])
    assert recipe.run_dir == f"runs/{path.stem}"
    changes = overridden(recipe.model)
    get_config(recipe.model.preset, **changes)
    header = [line for line in path.read_text("utf-8").splitlines() if line.startswith("#")]
    assert any("token" in line for line in header)
    prepared = next(
        line.split(" prepare ")[1].split()[0] for line in header if "Prepare: transformer-zoo prepare" in line
    )
    assert (ROOT / "data" / prepared / "prepare.py").is_file()
