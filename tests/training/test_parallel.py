"""However processes share a model, they train it as one does; what cannot be shared so is refused in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import transformer_zoo as tz
from tests.faults.tiny import main_of, write_recipe
from transformer_zoo.blocks import Attention, FeedForward
from transformer_zoo.errors import UserError
from transformer_zoo.training.config import ParallelConfig
from transformer_zoo.training.distributed import World
from transformer_zoo.training.parallel import LARGE, Arrangement, arrange, prepare
from transformer_zoo.training.sharded import check_cut

from .arranged import MODELS, Work, task_of
from .test_distributed import free_port

HERE = Path(__file__).parent
TOLERANCE = 1e-5


def trained_by(n: int, folder: Path, root: Path, *works: str) -> None:
    """Each work by n processes, one after the other."""
    run_by(n, root, "-W", "error", str(HERE / "arranged.py"), str(folder), *works)


def run_by(n: int, root: Path, *words: str) -> None:
    """Python on these words, n times at once."""
    shared = {"PYTHONPATH": str(root), "WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, *words],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(n)
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * n, "\n".join(outputs)
    finally:
        for process in processes:
            process.kill()


def alone(folder: Path, work: str) -> dict[str, torch.Tensor]:
    """The final weights of one process that does the same."""
    made = Work.of(work)
    made.train(folder)
    return load_file(folder / made.name / "model.safetensors")


def check_same(ours: Path, theirs: dict[str, torch.Tensor], tolerance: float = TOLERANCE) -> None:
    found = load_file(ours / "model.safetensors")
    assert found.keys() == theirs.keys()
    for name, value in theirs.items():
        if "k_proj.bias" not in name:  # whose gradient is nothing but rounding
            torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def check_as_one(folder: Path, root: Path, works: list[str], n: int = 4) -> None:
    """The works of n processes give what one process gives, and measure the same on the way."""
    trained_by(n, folder, root, *works)
    wanted: dict[str, tuple[str, dict[str, torch.Tensor]]] = {}
    for words in works:
        model, optimizer, _, updates, name, *more = words.split(":")
        key = f"{model}-{optimizer}"
        if key not in wanted:
            lone = ":".join([model, optimizer, "1x1x1", updates, key, *more])
            wanted[key] = key, alone(folder, lone)
        check_same(folder / name, wanted[key][1])
        for ours, theirs in zip(records(folder / name), records(folder / key), strict=True):
            assert ours.keys() == theirs.keys()
            for field in ("step", "tokens", "lr"):
                assert ours.get(field) == theirs.get(field)
            for field in ours.keys() & {"loss", "nll", "grad_norm"}:
                assert ours[field] == pytest.approx(theirs[field], rel=1e-4)
        samples = [(folder / run / "samples.txt").read_text() for run in (name, key)]
        assert samples[0] == samples[1]


def test_two_processes_that_share_a_model_train_as_one_does(tmp_path: Path, root: Path) -> None:
    check_as_one(tmp_path, root, ["modern:muon:1x1x2:8:a", "paper:adamw:1x2x1:8:b"], n=2)


ARRANGEMENTS = ("4x1x1", "1x4x1", "2x2x1", "1x2x2", "2x1x2")


@pytest.mark.slow  # 4 processes, a minute
@pytest.mark.parametrize("model", ["modern", "paper"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_arrangement_trains_as_one_process_does(tmp_path: Path, root: Path, model: str, optimizer: str) -> None:
    works = [f"{model}:{optimizer}:{arrangement}:20:{arrangement}" for arrangement in ARRANGEMENTS]
    check_as_one(tmp_path, root, works)


@pytest.mark.slow  # 4 processes, half a minute
def test_every_kind_of_part_is_cut_right(tmp_path: Path, root: Path) -> None:
    works = [f"{model}:adamw:1x2x2:8:{model}:again" for model in MODELS if model not in ("modern", "paper")]
    check_as_one(tmp_path, root, works)


@pytest.mark.slow  # 4 processes, half a minute
def test_any_arrangement_goes_on_from_any_other(tmp_path: Path, root: Path) -> None:
    """Four updates each; and one that stops on its way ends with the very weights of one that does not."""
    order = ["1x2x2", "2x2x1", "4x1x1", "1x4x1", "2x1x2"]
    works = [f"modern:muon:{arrangement}:{4 * i + 4}:all" for i, arrangement in enumerate(order)]
    works += ["modern:muon:1x2x2:20:whole", "modern:muon:1x2x2:8:parts", "modern:muon:1x2x2:20:parts"]
    trained_by(4, tmp_path, root, *works)
    alone(tmp_path, "modern:muon:1x1x1:20:one")
    states = [torch.load(tmp_path / run / "checkpoints" / "last.pt") for run in ("all", "one", "whole", "parts")]
    for name, value in states[1]["model"].items():
        torch.testing.assert_close(states[0]["model"][name], value, rtol=0, atol=TOLERANCE)
        assert torch.equal(states[2]["model"][name], states[3]["model"][name])
    alone(tmp_path, "modern:muon:1x1x1:24:all")  # and one process from four


@pytest.mark.slow  # 2 processes
def test_in_bfloat16_losses_are_near(tmp_path: Path, root: Path) -> None:
    """Adam's first steps have the sign of a gradient, so that a weight whose gradient is near 0 goes either way."""
    trained_by(2, tmp_path, root, "paper:adamw:1x2x1:6:a:bfloat16", "modern:adamw:1x1x2:6:b:bfloat16")
    for model, run in (("paper", "a"), ("modern", "b")):
        alone(tmp_path, f"{model}:adamw:1x1x1:6:{model}:bfloat16")
        for ours, theirs in zip(records(tmp_path / run), records(tmp_path / model), strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-3)


@pytest.mark.slow  # 2 processes
@pytest.mark.parametrize("recipe", ["translation", "gpt", "masked"])
@pytest.mark.parametrize(
    ("one", "two"),
    [((), ("--parallel.tensor", "2")), (("--training.accumulate", "2"), ("--parallel.shard", "2"))],
    ids=["tensor", "shard"],
)
def test_a_recipe_is_the_same_from_text_to_results(
    recipe: str, one: tuple[str, ...], two: tuple[str, ...], tmp_path: Path, root: Path
) -> None:
    path, fields = str(write_recipe(tmp_path, recipe)), ["--training.max_updates", "8"]  # less than an epoch
    if recipe != "translation":  # an update has a fixed number of tokens there
        one, fields = (), [*fields, "--model.attention_dropout", "0"]
    main_of(recipe)([path, "--run_dir", str(tmp_path / "one"), *fields, *one])
    run_by(2, root, "-m", "transformer_zoo", "train", path, "--run_dir", str(tmp_path / "two"), *fields, *two)
    check_same(tmp_path / "two", load_file(tmp_path / "one" / "model.safetensors"), 1e-4)
    ours, theirs = (json.loads((tmp_path / run / "results.json").read_text()) for run in ("two", "one"))
    assert ours["validation"] == pytest.approx(theirs["validation"], rel=1e-3)
    assert ours.keys() == theirs.keys()
    assert ours.get("tests") == theirs.get("tests")


@pytest.mark.parametrize(
    ("fields", "size", "parameters", "found"),
    [
        ({}, 1, LARGE + 1, (1, 1, 1)),
        ({}, 8, LARGE, (8, 1, 1)),
        ({}, 16, LARGE + 1, (2, 8, 1)),
        ({"tensor": 2}, 16, LARGE + 1, (4, 2, 2)),
        ({"tensor": 8}, 8, 1, (1, 1, 8)),
        ({"shard": 4}, 8, 1, (2, 4, 1)),
        ({"replicate": 2}, 8, 1, (2, 4, 1)),
        ({"replicate": 1, "tensor": 2}, 8, 1, (1, 4, 2)),
        ({"replicate": 2, "shard": 2, "tensor": 2}, 8, 1, (2, 2, 2)),
    ],
)
def test_what_is_not_given_follows(
    fields: dict[str, Any], size: int, parameters: int, found: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(min(size, 8) if "tensor" not in fields else min(size, 4)))
    made = arrange(ParallelConfig(**fields), World(0, size), parameters)
    assert (made.replicate, made.shard, made.tensor) == found


@pytest.mark.parametrize(
    ("fields", "size", "said"),
    [
        ({"shard": 2}, 1, "takes 2 processes, and 1 process was started.*--nproc-per-node 2"),
        ({"tensor": 3}, 4, "takes 3 processes, and 4 processes were started"),
        ({"replicate": 3, "shard": 2}, 4, "replicate 3 x shard 2 x tensor 1 takes 6 processes"),
        ({"shard": 3}, 4, "takes 3 processes"),
    ],
)
def test_another_number_of_processes_is_refused(fields: dict[str, Any], size: int, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        arrange(ParallelConfig(**fields), World(0, size), 1)
    assert "\n" not in str(error.value)


def test_a_divided_model_is_not_compiled() -> None:
    with pytest.raises(UserError, match=r"^compile: .*parallel\.shard or parallel\.tensor is not compiled"):
        prepare(task_of("paper"), Arrangement(shard=2), torch.device("cpu"), World(0, 2), "always", narrow=False)


def test_those_who_read_alike_are_neighbours() -> None:
    made = arrange(ParallelConfig(shard=2, tensor=2), World(5, 8), 1)
    assert made.readers(World(5, 8, 1)) == World(2, 4, 1)
    assert made.parts == 4


@pytest.mark.parametrize(
    ("changes", "tensor", "said"),
    [
        ({"n_heads": 6}, 4, "n_heads 6, n_kv_heads 6: not to be cut in 4; 1, 2, 3, 6 would do"),
        ({"n_kv_heads": 2}, 4, "n_heads 4, n_kv_heads 2: not to be cut in 4; 1, 2 would do"),
        ({"d_ff": 30}, 4, "d_ff 30: not to be cut in 4; 1, 2, 3, 5, 6, 10, 15, 30 would do"),
        ({"attention_dropout": 0.1}, 2, "dropout of attention weights is 0.1"),
        ({"activation_dropout": 0.1}, 2, "dropout of activations is 0.1"),
    ],
)
def test_what_does_not_divide_is_refused_with_what_would(changes: dict[str, Any], tensor: int, said: str) -> None:
    sizes = {
        "vocab_size": 64,
        "d_model": 24,
        "n_heads": 4,
        "d_ff": 40,
        "n_layers": 1,
        "attention_dropout": 0.0,
    } | changes
    with pytest.raises(UserError, match=f"^parallel.tensor {tensor}: {said}"):
        check_cut(tz.DecoderConfig.of(**sizes), tensor)


def test_parts_say_how_they_are_cut() -> None:
    def own(x: torch.Tensor, axis: int) -> torch.Tensor:
        return x

    assert FeedForward(8, 12, gated=True).cut(4, own) == {
        "up_proj": "columns",
        "gate_proj": "columns",
        "down_proj": "rows",
    }
    assert FeedForward(8, 12, activation="xielu").cut(2, own)["activation"] == "alike"
    normed = Attention(8, 4, qk_norm=tz.blocks.RMSNorm(2))
    assert normed.cut(2, own)["q_norm"] == "alike"
    over_all = Attention(8, 4, qk_norm=(tz.blocks.RMSNorm(8), tz.blocks.RMSNorm(8)), qk_norm_over="all_heads")
    assert over_all.cut(2, own) == {}  # each process has all of it
