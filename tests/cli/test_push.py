"""`transformer-zoo push`, and a run by its name on the hub: against a stand-in that answers hub's own client."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml

import transformer_zoo as tz
from tests import hub
from tests.hub_server import Hub, serving
from transformer_zoo.cli import main
from transformer_zoo.errors import UserError
from transformer_zoo.runs.folder import read_results
from transformer_zoo.runs.hub import model_card
from transformer_zoo.runs.load import Run
from transformer_zoo.zoo.huggingface import resolve

SMALL = {"d_model": 24, "n_heads": 3, "d_ff": 29, "n_layers": 1, "norm_position": "pre"}


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    constants = huggingface_hub.constants
    with serving() as place:
        monkeypatch.setattr(constants, "ENDPOINT", place)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", place + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
        yield place


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translation that was trained for a moment, and scored."""
    folder = tmp_path_factory.mktemp("run")
    recipe = {
        "run_dir": str(folder / "run"), "device": "cpu", "tokenizer": {"vocab_size": 61},
        "data": {"source_lang": "en", "target_lang": "de", "train": hub.write_pairs(folder, "train", 99, 0),
                 "validation": hub.write_pairs(folder, "val", 9, 1),
                 "tests": {"held_out": hub.write_pairs(folder, "test", 9, 2)}},
        "model": {"preset": "transformer-tiny", **SMALL}, "training": {"batch_tokens": 256, "max_updates": 2},
        "validation": {"bleu_sentences": 0, "samples": 0}, "test": {"beam": 1},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["train", str(folder / "recipe.yaml")]) == 0
    return folder / "run"


def test_there_and_back(run: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), "somebody/demo"]) == 0
    assert f"{address}/somebody/demo" in capsys.readouterr().out
    there = Hub.repositories["somebody/demo"]
    tokenizer = {f"tokenizer/{path.name}" for path in (run / "tokenizer").iterdir()}
    files = {"README.md", "config.yaml", "model.json", "model.safetensors", "results.json", *tokenizer}
    assert there.keys() == files
    before, after = tz.load_run(run), tz.load_run("somebody/demo")
    assert isinstance(after, Run)
    state = before.model.state_dict()
    assert all(torch.equal(weight, state[name]) for name, weight in after.model.state_dict().items())
    assert after.recipe == shortened(before.recipe, run.parent)
    assert after.tokenizer.fingerprint == before.tokenizer.fingerprint


def test_the_card_says_what_the_run_is(run: Path, address: str) -> None:
    assert main(["push", str(run), "somebody/demo"]) == 0
    card = Hub.repositories["somebody/demo"]["README.md"].decode()
    about = yaml.safe_load(card.split("---")[1])
    assert about["pipeline_tag"] == "translation"
    assert about["language"] == ["de", "en"]
    results = read_results(run)
    assert results is not None
    found = results["tests"]["held_out"]
    assert f"held_out: bleu {found['bleu']:.2f}, `{found['signatures']['bleu']}`" in card
    assert all(f"`{field}`: checksum `{checksum}`" in card for field, checksum in results["texts"].items())
    exact = results["leaks"]["held_out"]["exact"]
    assert f"held_out, of 9 pairs, exact: {exact['sources']} sources, {exact['targets']} targets" in card
    assert yaml.safe_load(card.split("```yaml\n")[1].split("```")[0]) == shortened(tz.load_run(run).recipe, run.parent)


def shortened(recipe: dict[str, Any], folder: Path) -> Any:
    """Without the folder, in which all files of the run above lie."""
    return yaml.safe_load(yaml.safe_dump(recipe).replace(f"{folder}/", ""))


def test_where_files_lie_here_is_not_told(run: Path, address: str) -> None:
    assert str(run.parent) in (run / "config.yaml").read_text()
    assert main(["push", str(run), "somebody/demo"]) == 0
    files = Hub.repositories["somebody/demo"]
    assert [name for name, content in files.items() if str(run.parent).encode() in content] == []
    assert b"train.en" in files["config.yaml"]


@pytest.mark.parametrize(
    ("name", "changes", "task"),
    [
        ("bert-tiny", {}, "fill-mask"),
        ("bert-tiny", {"head": "none"}, "feature-extraction"),
        ("gpt-nano", {}, "text-generation"),
        ("transformer-tiny", {}, "translation"),
    ],
)
def test_the_card_says_what_a_model_is_for(name: str, changes: dict[str, Any], task: str) -> None:
    config = tz.get_config(name, vocab_size=257, **changes)
    assert yaml.safe_load(model_card("somebody/demo", config, {}, {}).split("---")[1])["pipeline_tag"] == task


def test_a_model_that_is_no_run_is_used_by_its_name_too(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "marian"
    hub.marian(folder)
    Hub.repositories["somebody/marian"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    here, there = tz.translator(folder, beam=2), tz.translator("somebody/marian", beam=2)
    assert here("a cat sees") == there("a cat sees")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # it was fetched once
    assert tz.translator("somebody/marian", beam=2)("a cat sees") == there("a cat sees")


def test_no_stranger_is_asked_for_a_run_of_one_s_own(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["translate", "runs/mine"]) == 1
    assert capsys.readouterr().err == "error: runs/mine: no such run folder\n"
    with pytest.raises(UserError, match="runs/mine: no such folder"):
        resolve("runs/mine")
    assert Hub.asked_for == []


def test_evaluated_by_its_name(run: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the folder, with one score; it keeps nothing."""
    assert main(["push", str(run), "somebody/demo"]) == 0
    capsys.readouterr()
    text = ["--source", str(run.parent / "test.en"), "--reference", str(run.parent / "test.de"), "--json"]
    assert main(["evaluate", "somebody/demo", *text, "--compare", str(run)]) == 0
    there, here = json.loads(capsys.readouterr().out)["systems"]
    assert there["system"] == "somebody/demo"
    assert there["splits"][0]["scores"] == here["splits"][0]["scores"]
    assert main(["evaluate", str(run), *text, "--compare", "somebody/demo"]) == 0
    assert not list(Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("evaluation"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push", "RUN", "demo"], "not a name on the hub"),
        (["push", "nobody/demo", "somebody/demo"], "nobody/demo: no such run folder"),
        (["push", "nowhere", "somebody/demo"], "nowhere: no such run folder"),
        (["translate", "nobody/demo"], "/nobody/demo, and the hub has no model of that name, or a private one"),
        (["evaluate", "nobody/demo"], "nobody/demo: there is no folder /"),
        (["evaluate", "RUN", "--compare", "nobody/demo"], "nobody/demo: there is no folder /"),
        (["translate", "docs/demo"], "docs/demo: no such run folder"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    message: str,
    run: Path,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main([str(run) if word == "RUN" else word for word in words]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
