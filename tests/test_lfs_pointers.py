"""A folder that was cloned without git-lfs: a file in whose place there is a pointer is named, with what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import transformer_zoo as tz
from tests import hub
from transformer_zoo.errors import UserError
from transformer_zoo.runs.huggingface import imported_run
from transformer_zoo.runs.load import load_run, save_run
from transformer_zoo.zoo.huggingface.checkpoint import Checkpoint

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 5\n"


def refused_by_name(path: Path, load: Callable[[], object]) -> bool:
    """Whether what reads this folder needs the file, and so refuses its pointer."""
    content = path.read_bytes()
    path.write_text(POINTER)
    said = ""
    try:
        load()
    except UserError as error:
        said = str(error)
    path.write_bytes(content)
    assert not said or said.startswith(f"{path} is a pointer of git-lfs, not the file itself: run `git lfs"), said
    return bool(said)


@pytest.mark.filterwarnings("ignore::transformer_zoo.checksums.UncheckedWarning")
@pytest.mark.parametrize("make", [hub.gpt2, hub.marian, hub.nllb])
def test_every_file_of_a_downloaded_folder_and_of_its_run(make: Callable[[Path], object], tmp_path: Path) -> None:
    theirs, run = tmp_path / "theirs", tmp_path / "run"
    theirs.mkdir()
    make(theirs)

    def load() -> object:
        return imported_run(tz.from_huggingface(theirs), theirs)

    loaded = load()
    needed = {path.name for path in theirs.iterdir() if refused_by_name(path, load)}
    assert {"config.json", "model.safetensors"} <= needed
    assert needed & {"vocab.json", "source.spm", "tokenizer.json", "sentencepiece.bpe.model"}
    run.mkdir()
    save_run(loaded, run, {"imported": "theirs"})  # type: ignore[arg-type]
    files = [path for path in run.rglob("*") if path.is_file()]
    needed = {path.name for path in files if refused_by_name(path, lambda: load_run(run))}
    assert {"model.json", "config.yaml", "model.safetensors"} <= needed
    assert len(needed) > 3  # the tokenizer's


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("in_parts", [False, True])
def test_weights_of_either_kind_whole_and_in_parts(name: str, in_parts: bool, tmp_path: Path) -> None:
    path = tmp_path / name
    if in_parts:
        path = tmp_path / name.replace(".", "-00001-of-00001.")
        index = {"weight_map": {"wte.weight": path.name}}
        (tmp_path / f"{name}.index.json").write_text(json.dumps(index))
    path.write_text(POINTER)
    with pytest.raises(UserError, match=f"^{path} is a pointer of git-lfs, not the file itself: run `git lfs install`"):
        Checkpoint(tmp_path)
