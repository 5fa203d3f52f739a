"""A run whose files are damaged, or come from a stranger: one line, and what is left is gone on from."""

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.having import having
from transformer_zoo.errors import UserError
from transformer_zoo.training.checkpoint import Checkpoints, Progress

from .toy import toy_config, toy_run, toy_task


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def weights(run_dir: Path) -> dict[str, list[float]]:
    return {name: value.tolist() for name, value in load_file(run_dir / "model.safetensors").items()}


def run(run_dir: Path, final: Any = "average", **limits: Any) -> str:
    config = toy_config(run_dir, **limits)
    config = having(config, "checkpoint.final_weights", final)
    return toy_run(run_dir, config=config)


@pytest.mark.parametrize("final", ["average", "best", "last"])
@pytest.mark.parametrize("name", ["last.pt", "step_000012", "best_000012"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, final: str, name: str, gone: bool, recwarn: pytest.WarningsRecorder
) -> None:
    run(tmp_path / "whole", final)
    run(tmp_path / "hurt", final, max_updates=12)
    [path] = (tmp_path / "hurt" / "checkpoints").glob(f"{name}*")
    path.unlink() if gone else flip(path)
    with warnings.catch_warnings(action="always"):
        run(tmp_path / "hurt", final)
    assert weights(tmp_path / "hurt") == weights(tmp_path / "whole")
    needed = {"average": "step", "best": "best", "last": "step"}[final] in name
    said = [str(warning.message) for warning in recwarn]
    if not gone or name != "last.pt":
        assert len(said) == (needed or name == "last.pt")
        assert all(f"{path.name} is" in line and "resumes from" in line for line in said)


def test_the_state_before_stays_until_there_is_a_newer_good_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (4, 8):
        checkpoints.save(Progress(step=step), {})
    flip(checkpoints.last)
    again = Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match=r"last\.pt is damaged.*previous\.pt, update 4"):
        assert again.load() == (Progress(step=4), {})
    again.save(Progress(step=8), {})
    for name, step in (("last.pt", 8), ("previous.pt", 4)):
        assert torch.load(tmp_path / "checkpoints" / name)["progress"]["step"] == step
    flip(again.last)
    flip(again.previous)
    with pytest.raises(
        UserError, match=r"last\.pt is damaged.*or remove .*checkpoints to start the run again"
    ) as refused:
        Checkpoints(tmp_path).load()
    assert "\n" not in str(refused.value)


def test_what_is_to_be_averaged_is_looked_at_when_training_starts_again(tmp_path: Path) -> None:
    run(tmp_path, max_updates=12)
    flip(tmp_path / "checkpoints" / "step_000008.safetensors")  # both states name it
    with pytest.raises(UserError, match=r"step_000008\.safetensors is damaged"):
        run(tmp_path)
    run(tmp_path, "last")


def test_only_weights_of_the_run_are_removed(tmp_path: Path) -> None:
    run(tmp_path, max_updates=4)
    own = ["step_000004.safetensors.part", "mine.safetensors", "step_4.safetensors", ".x.part", "best_000004.pt"]
    for name in own:
        (tmp_path / "checkpoints" / name).write_text("somebody's own")
    run(tmp_path)
    for name in own:
        assert (tmp_path / "checkpoints" / name).read_text() == "somebody's own"


def lies() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Contents of last.pt by what is wrong with them; each takes a good state."""

    def with_progress(**fields: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda state: state | {"progress": state["progress"] | fields}

    def with_moment(tensor: torch.Tensor) -> Callable[[dict[str, Any]], Any]:
        def change(state: dict[str, Any]) -> Any:
            for held in state["optimizer"]["parts"][0]["state"].values():
                held["exp_avg"] = tensor
            return state

        return change

    def without_moments(state: dict[str, Any]) -> Any:
        state["optimizer"]["parts"][0]["state"][0] = {}
        return state

    wrong: dict[str, Any] = {
        "step": [-1, "4", 1.5, True, None, 1 << 70, [4]],
        "seconds": [float("nan"), float("inf"), "1"],
        "snapshots": [None, ["../../x"], [-1], {4: 4}, [1.5], "4"],
        "best_step": ["x", -1, 0.5],
        "best": [float("nan"), "low"],
        "logs": [{"metrics.jsonl": -1}, [], {"metrics.jsonl": "x"}],
        "data": ["x", {1: "x"}, {"data.train": 1}],
        "epoch": [-1, None],
        "new": [1],
    }
    found = {f"{name} {value!r}": with_progress(**{name: value}) for name, values in wrong.items() for value in values}
    huge = torch.zeros(1).expand(1 << 40)
    others: dict[str, Callable[[dict[str, Any]], Any]] = {
        "a list": lambda _: [1],
        "nothing": lambda _: {},
        "none": lambda _: None,
        "no progress": lambda state: {name: state[name] for name in state if name != "progress"},
        "progress of none": lambda state: state | {"progress": None},
        "before of paths": lambda state: state | {"before": [1]},
        "no model": lambda state: {name: state[name] for name in state if name != "model"},
        "a model of text": lambda state: state | {"model": {name: "x" for name in state["model"]}},
        "a huge weight": lambda state: state | {"model": dict.fromkeys(state["model"], huge)},
        "no state of a parameter": without_moments,
        "a huge moment": with_moment(huge),
        "a moment of another shape": with_moment(torch.zeros(3)),
        "a moment of text": with_moment("x"),  # type: ignore[arg-type]
        "an average of text": lambda state: state | {"average": "x"},
    }
    return found | others


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("run")
    toy_run(folder, max_updates=4)
    (folder / "checkpoints" / "previous.pt").unlink(missing_ok=True)
    return folder, torch.load(folder / "checkpoints" / "last.pt")


@pytest.mark.parametrize("lie", lies())
def test_a_state_that_lies_is_one_line(lie: str, state: tuple[Path, dict[str, Any]]) -> None:
    folder, good = state
    torch.save(lies()[lie](copy.deepcopy(good)), folder / "checkpoints" / "last.pt")
    with pytest.raises(UserError, match=r"last\.pt") as refused:
        toy_run(folder)
    assert "\n" not in str(refused.value)


CONTENTS = [b"", b"x", b"PK\x03\x04 half", pickle.dumps({"progress": 1}), pickle.dumps(print), b"\x80\x02"]


@pytest.mark.parametrize("content", CONTENTS)
def test_any_content_is_one_line(content: bytes, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.folder.mkdir()
    checkpoints.last.write_bytes(content)
    with pytest.raises(UserError, match=r"last\.pt is damaged") as refused:
        checkpoints.load()
    assert "\n" not in str(refused.value)


def test_settings_of_the_optimizer_are_the_recipe_s(state: tuple[Path, dict[str, Any]]) -> None:
    folder, good = state
    changed = copy.deepcopy(good)
    for group in changed["optimizer"]["parts"][0]["param_groups"]:
        group |= {"betas": "wrong", "lr": float("nan"), "surprise": 1}
    torch.save(changed, folder / "checkpoints" / "last.pt")
    toy_run(folder)
    toy_run(folder.with_name("whole"))
    assert weights(folder) == weights(folder.with_name("whole"))
    assert toy_task().data
