"""Files that are whole or not there, averages in float32, and runs that load."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.files import replacing, write_text
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.runs.load import load_run
from transformer_zoo.runs.model_json import ModelJson, write_model_json
from transformer_zoo.tokenizers import TranslationTokenizer, TranslationTokenizerSettings
from transformer_zoo.training.checkpoint import Checkpoints, Progress
from transformer_zoo.training.weights import (
    average_checkpoints,
    copy_weights,
    load_weights,
    save_weights,
    snapshot_paths,
)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def write_half() -> None:
        with replacing(path) as part:
            part.write_text("half of the n")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [RuntimeError("[enforce fail] unexpected pos 22144"), SafetensorError("No space")])
def test_a_disk_that_is_full_is_one_line_whoever_finds_it(tmp_path: Path, error: Exception) -> None:
    message = r"cannot be written; is the disk full\? \("
    with pytest.raises(OSError, match=message) as refused, replacing(tmp_path / "last.pt"):
        raise error
    assert refused.value.filename == str(tmp_path / "last.pt")


@pytest.mark.skipif(os.name != "posix", reason="permissions are posix's")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_get_the_permissions_that_the_user_gives_new_files(tmp_path: Path, mask: int) -> None:
    lines = ["one two three", "four five six"]
    tokenizer = TranslationTokenizer.train(lines, lines, TranslationTokenizerSettings(vocab_size=30))
    before = os.umask(mask)
    try:
        write_text(tmp_path / "text", "x")
        save_weights(tmp_path / "w.safetensors", {"w": torch.zeros(1)})
        tokenizer.save(tmp_path)
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    names = ("text", "w.safetensors", "source.sentencepiece.model", "target.sentencepiece.model", "tokenizer_kind.json")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(names, 0o666 & ~mask)


def test_the_average_of_bfloat16_is_taken_in_float32(tmp_path: Path) -> None:
    values = [256.0, 1.0, 1.0, 1.0]  # summed in bfloat16, the ones would be lost
    paths = []
    for number, value in enumerate(values):
        paths.append(tmp_path / f"step_{number}.safetensors")
        save_weights(paths[-1], {"w": torch.full((3,), value, dtype=torch.bfloat16)})
    mean = average_checkpoints(paths)["w"]
    assert mean.dtype == torch.bfloat16
    assert mean.tolist() == torch.tensor([259 / 4] * 3).bfloat16().tolist()


def test_weights_of_different_models_are_not_averaged(tmp_path: Path) -> None:
    paths = [tmp_path / f"{size}.safetensors" for size in (2, 3)]
    for size, path in zip((2, 3), paths, strict=True):
        save_weights(path, {"w": torch.zeros(size)})
    with pytest.raises(UserError, match="different models"):
        average_checkpoints(paths)
    with pytest.raises(UserError, match="no checkpoint"):
        average_checkpoints([])


def test_only_named_weights_stay_and_snapshots_come_in_their_order(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 999_999, 1_000_000):
        save_weights(checkpoints.weights_path(step), {"w": torch.zeros(1)})
        save_weights(checkpoints.weights_path(step, best=True), {"w": torch.zeros(1)})
    checkpoints.save(Progress(step=7, best_step=5, snapshots=[999_999, 1_000_000]), {"model": {}})
    names = [path.name for path in snapshot_paths(tmp_path)]
    assert names == ["step_999999.safetensors", "step_1000000.safetensors"]
    assert [p.name for p in checkpoints.folder.glob("best_*")] == ["best_000005.safetensors"]
    found = checkpoints.load()
    assert found is not None
    assert found[0] == Progress(step=7, best_step=5, snapshots=[999_999, 1_000_000])


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half of a zip"])
def test_a_damaged_state_is_named(tmp_path: Path, content: bytes) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    checkpoints.folder.mkdir()
    (checkpoints.folder / "last.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"last\.pt is damaged"):
        checkpoints.load()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run as the recipe leaves it, of random weights."""
    lines = ["ein zwei drei", "one two three", "vier five sechs"]
    settings = TranslationTokenizerSettings(vocab_size=30, joint=False, target_vocab_size=25)
    TranslationTokenizer.train(lines, lines, settings).save(tmp_path / "tokenizer")
    config = EncoderDecoderConfig.of(
        vocab_size=30, target_vocab_size=25, d_model=12, n_heads=3, d_ff=7, n_encoder_layers=1,
        n_decoder_layers=1, share_embeddings="decoder",
    )  # fmt: skip
    write_model_json(tmp_path, ModelJson(config))
    save_weights(tmp_path / "model.safetensors", copy_weights(EncoderDecoder(config)))
    write_text(tmp_path / "config.yaml", "run_dir: x\n")
    return tmp_path


def test_a_run_loads_as_it_was_saved(run_dir: Path) -> None:
    run = load_run(run_dir)
    assert not run.model.training
    assert run.recipe == {"run_dir": "x"}
    assert run.model.config.target_vocab_size == run.tokenizer.target.vocab_size == 25
    for name, value in load_weights(run_dir / "model.safetensors").items():
        assert torch.equal(run.model.state_dict()[name], value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", None, "has no model.safetensors"),
        ("model.json", None, "has no model.json"),
        ("model.safetensors", "not weights", "no weights can be read"),
        ("model.json", "{", "damaged"),
        ("model.json", '{"family": "bird"}', "family"),
        ("config.yaml", "a: [", "damaged"),
    ],
)
def test_a_broken_run_is_refused_in_one_line(run_dir: Path, name: str, content: str | None, message: str) -> None:
    if content is None:
        (run_dir / name).unlink()
    else:
        (run_dir / name).write_text(content)
    with pytest.raises(UserError, match=message) as error:
        load_run(run_dir)
    assert "\n" not in str(error.value)


def test_a_run_knows_the_longest_source_it_was_trained_on(run_dir: Path) -> None:
    assert load_run(run_dir).max_source_tokens == 1024  # not written: what the model takes
    write_model_json(run_dir, ModelJson(load_run(run_dir).model.config, max_source_tokens=17))
    assert load_run(run_dir).max_source_tokens == 17


def test_weights_that_do_not_fit_the_model_are_refused(run_dir: Path) -> None:
    save_weights(run_dir / "model.safetensors", {"w": torch.zeros(1)})
    with pytest.raises(UserError, match="does not fit"):
        load_run(run_dir)
    with pytest.raises(UserError, match="no such run"):
        load_run(run_dir / "nothing")


def test_kept_weights_are_in_the_order_of_their_updates_and_one_without_a_number_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    names = ["step_000900.safetensors", "step_001000.safetensors", "step_1000000.safetensors"]
    for name in reversed(names):
        (tmp_path / "checkpoints" / name).touch()
    assert [path.name for path in snapshot_paths(tmp_path)] == names
    (tmp_path / "checkpoints" / "step_x.safetensors").touch()
    with pytest.raises(UserError, match=r"step_x\.safetensors: its name is not step_NUMBER\.safetensors"):
        snapshot_paths(tmp_path)
