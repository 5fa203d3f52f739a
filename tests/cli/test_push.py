"""`transformer-zoo push`, and a run by its name on the hub: against a stand-in that answers hub's own client."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml

import transformer_zoo as tz
from tests import hub
from tests.hub_server import Hub, serving
from transformer_zoo.cli import main
from transformer_zoo.runs.load import Run

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
    assert after.recipe == before.recipe
    assert after.tokenizer.fingerprint == before.tokenizer.fingerprint


def test_the_card_says_what_the_run_is(run: Path, address: str) -> None:
    assert main(["push", str(run), "somebody/demo"]) == 0
    card = Hub.repositories["somebody/demo"]["README.md"].decode()
    about = yaml.safe_load(card.split("---")[1])
    assert about["pipeline_tag"] == "translation"
    assert about["language"] == ["de", "en"]
    from transformer_zoo.runs.folder import read_results

    results = read_results(run)
    assert results is not None
    found = results["tests"]["held_out"]
    assert f"held_out: bleu {found['bleu']:.2f}, `{found['signatures']['bleu']}`" in card
    assert all(f"`{field}`: checksum `{checksum}`" in card for field, checksum in results["texts"].items())
    exact = results["leaks"]["held_out"]["exact"]
    assert f"held_out, of 9 pairs, exact: {exact['sources']} sources, {exact['targets']} targets" in card
    assert yaml.safe_load(card.split("```yaml\n")[1].split("```")[0]) == tz.load_run(run).recipe


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push", "RUN", "demo"], "no name of the hub"),
        (["push", "nowhere", "somebody/demo"], "nowhere: no such run folder"),
        (["translate", "nobody/demo"], "nobody/demo: no such folder, and the hub has no such model"),
        (["evaluate", "nobody/demo"], "hf download nobody/demo --local-dir DIR"),
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
