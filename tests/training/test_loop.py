"""What one update is, when training stops, what it leaves behind, and that it goes on as if never stopped."""

import json
import os
import re
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.having import having
from transformer_zoo.errors import UserError
from transformer_zoo.training.config import ScheduleConfig
from transformer_zoo.training.distributed import World
from transformer_zoo.training.loop import Trainer
from transformer_zoo.training.schedule import inverse_sqrt

from .toy import PAIRS, toy_config, toy_run, toy_task


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "model.safetensors")


def records(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left | right)


@pytest.mark.parametrize("cuts", [2, 5, 8])
def test_the_same_tokens_give_the_same_update_however_they_are_cut(tmp_path: Path, cuts: int) -> None:
    for folder, number in (("whole", 1), ("cut", cuts)):
        task = toy_task(cuts=number, dropout=0.0)
        toy_run(tmp_path / folder, task, accumulate=number, max_updates=6, log_every=6)
    for name, value in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "cut")[name], value, rtol=1e-9, atol=1e-12)
    whole, cut = (records(tmp_path / folder, "train")[-1] for folder in ("whole", "cut"))
    for name in ("loss", "nll", "grad_norm"):
        assert whole[name] == pytest.approx(cut[name], rel=1e-9)
    assert whole["tokens"] == cut["tokens"] == 6 * PAIRS


def test_an_update_is_adam_on_the_clipped_mean_gradient(tmp_path: Path) -> None:
    task, reference = toy_task(cuts=1, dropout=0.0), toy_task(cuts=1, dropout=0.0)
    toy_run(tmp_path, task, max_updates=1, max_grad_norm=0.01)
    loss, _ = reference.objective(reference.load(reference.plan(0)[0]))
    (loss / PAIRS).backward()
    parameters = list(reference.model.parameters())
    norm = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()
    assert records(tmp_path, "train")[0]["grad_norm"] == pytest.approx(norm.item())
    lr = inverse_sqrt(1, peak=0.05, warmup=5)
    for (name, parameter), trained in zip(reference.model.named_parameters(), task.model.parameters(), strict=True):
        assert parameter.grad is not None
        grad = parameter.grad * 0.01 / norm
        # Adam's first step after bias correction: grad / (|grad| + eps).
        expected = parameter.detach() - lr * grad / (grad.abs() + 1e-9)
        torch.testing.assert_close(trained.detach(), expected, rtol=1e-5, atol=1e-7, msg=name)


def test_the_schedule_steps_once_an_update_from_one(tmp_path: Path) -> None:
    toy_run(tmp_path, accumulate=3, max_updates=9, log_every=1)
    rates = [record["lr"] for record in records(tmp_path, "train")]
    assert rates == [inverse_sqrt(step, peak=0.05, warmup=5) for step in range(1, 10)]


@pytest.mark.parametrize("limits", [{"max_epochs": 3}, {"max_epochs": 3, "max_updates": 99}, {"max_updates": 18}])
def test_a_schedule_that_decays_ends_where_training_does(tmp_path: Path, limits: dict[str, int]) -> None:
    config = toy_config(tmp_path, log_every=1, **limits)
    config = having(config, "schedule", ScheduleConfig(name="linear", warmup=2))
    toy_run(tmp_path, config=config)
    rates = [record["lr"] for record in records(tmp_path, "train")]
    assert len(rates) == 18  # an epoch has 6 updates
    assert rates[-1] == 0 < rates[-2] < 0.01


def test_a_run_cut_short_and_raised_ends_like_one_never_stopped(tmp_path: Path) -> None:
    assert toy_run(tmp_path / "whole") == "max_updates"
    for limit in (7, 8, 20):
        assert toy_run(tmp_path / "parts", max_updates=limit) == "max_updates"
    last = [torch.load(tmp_path / run / "checkpoints" / "last.pt") for run in ("whole", "parts")]
    assert same(last[0]["model"], last[1]["model"])


def test_what_a_killed_run_wrote_after_its_checkpoint_is_not_there_twice(tmp_path: Path) -> None:
    toy_run(tmp_path, max_updates=8)
    for name in ("metrics.jsonl", "samples.txt"):
        with (tmp_path / name).open("a") as file:
            file.write('{"kind": "train", "step": 9}\n{"kind": "tr')
    toy_run(tmp_path)
    steps = [record["step"] for record in records(tmp_path, "train")]
    assert steps == sorted(set(steps))
    assert [record["step"] for record in records(tmp_path, "valid")] == [6, 8, 12, 18, 20]
    assert (tmp_path / "samples.txt").read_text() == "".join(
        f"== update {step}\na sample\n" for step in (6, 8, 12, 18, 20)
    )


def test_a_finished_run_trained_again_changes_nothing(tmp_path: Path) -> None:
    toy_run(tmp_path)
    paths = [path for path in tmp_path.rglob("*") if path.suffix in (".safetensors", ".jsonl", ".txt")]
    before = {path: path.read_bytes() for path in paths}
    assert toy_run(tmp_path) == "max_updates"
    assert before == {path: path.read_bytes() for path in before}


def test_not_a_number_stops_with_the_last_checkpoint_kept(tmp_path: Path) -> None:
    task = toy_task()
    plan = task.plan

    def poisoned(epoch: int) -> Any:
        if epoch == 1:  # updates 7 to 12
            with torch.no_grad():
                next(task.model.parameters()).fill_(float("nan"))
        return plan(epoch)

    task.plan = poisoned
    with pytest.raises(UserError, match=r"update 7: loss or gradient is not finite.*checkpoint") as error:
        toy_run(tmp_path, task)
    assert "\n" not in str(error.value)
    state = torch.load(tmp_path / "checkpoints" / "last.pt")
    assert state["progress"]["step"] == 6  # before the validation
    assert all(value.isfinite().all() for value in state["model"].values())
    assert toy_run(tmp_path) == "max_updates"


def run_with_losses(tmp_path: Path, losses: list[float], final: Any, **fields: Any) -> tuple[str, Any]:
    """A run whose validations give `losses`; what it ended by and its config."""
    values = iter(losses)
    config = toy_config(tmp_path)
    config = having(config, "checkpoint.final_weights", final)
    for name, value in fields.items():
        config = having(config, f"validation.{name}", value)
    task = toy_task(validate=lambda: {"loss": (value := next(values)), "bleu": -value})
    return toy_run(tmp_path, task, config), config


@pytest.mark.parametrize("by", ["loss", "bleu"])
def test_patience_counts_validations_without_a_new_best(tmp_path: Path, by: str) -> None:
    losses = [3.0, 2.0, 2.5, 2.0, 1.0]
    reason, _ = run_with_losses(tmp_path, losses, "best", every=2, patience=2, best_by=by)
    assert reason == "patience"
    assert [record["step"] for record in records(tmp_path, "valid")] == [2, 4, 6, 8]
    best = load_file(tmp_path / "checkpoints" / "best_000004.safetensors")
    assert same(best, weights(tmp_path))
    # A finished run stays finished.
    assert run_with_losses(tmp_path, [], "best", every=2, patience=2, best_by=by)[0] == "patience"


def test_final_weights_are_the_mean_of_the_last_checkpoints_or_the_last(tmp_path: Path) -> None:
    toy_run(tmp_path / "average")
    names = [f"step_{step:06d}.safetensors" for step in (8, 12, 16, 20)]
    folder = tmp_path / "average" / "checkpoints"
    assert sorted(path.name for path in folder.glob("step_*")) == names  # update 8 for previous.pt alone
    parts = [load_file(folder / name) for name in names[1:]]
    for name, value in weights(tmp_path / "average").items():
        torch.testing.assert_close(value, sum(part[name] for part in parts) / 3)
    config = toy_config(tmp_path / "last")
    config = having(config, "checkpoint.final_weights", "last")
    toy_run(tmp_path / "last", config=config)
    assert same(weights(tmp_path / "last"), parts[-1])


def test_the_moving_average_is_validated_and_saved_and_survives_a_stop(tmp_path: Path) -> None:
    toy_run(tmp_path / "whole", ema_decay=0.5)
    for limit in (8, 20):
        toy_run(tmp_path / "parts", ema_decay=0.5, max_updates=limit)
    toy_run(tmp_path / "none")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert not same(weights(tmp_path / "whole"), weights(tmp_path / "none"))


def test_the_other_limits_stop_too(tmp_path: Path) -> None:
    assert toy_run(tmp_path / "epochs", max_epochs=2) == "max_epochs"
    assert records(tmp_path / "epochs", "valid")[-1]["step"] == 12
    assert toy_run(tmp_path / "minutes", max_updates=10**6, max_minutes=0.003) == "max_minutes"
    assert weights(tmp_path / "minutes")
    steps = [record["step"] for record in records(tmp_path / "minutes", "valid")]
    state = torch.load(tmp_path / "minutes" / "checkpoints" / "last.pt")
    assert steps[-1] == state["progress"]["step"] < 10**6


def test_smoothing_dropout_and_batch_order_follow_the_seed(tmp_path: Path) -> None:
    for folder, seed in (("one", 1), ("again", 1), ("two", 2)):
        config = toy_config(tmp_path / folder)
        config = having(config, "seed", seed)
        toy_run(tmp_path / folder, config=config)
    assert same(weights(tmp_path / "one"), weights(tmp_path / "again"))
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_a_best_that_is_not_measured_is_named(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    config = having(config, "validation.best_by", "bleu")
    with pytest.raises(UserError, match="bleu was not measured"):
        Trainer(toy_task(), config, world=World()).fit()


def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    toy_run(tmp_path, max_updates=4)
    path = tmp_path / "checkpoints" / "last.pt"
    state = torch.load(path)
    for part, wrong in (("optimizer", {"state": {}, "param_groups": []}), ("optimizer", {}), ("model", {"w": 1})):
        torch.save(state | {part: wrong}, path)
        with pytest.raises(UserError, match=r"last\.pt does not fit the model or the optimizer") as error:
            toy_run(tmp_path)
        assert "\n" not in str(error.value)


def test_a_validation_that_fails_loses_no_update(tmp_path: Path) -> None:
    def fails() -> dict[str, float]:
        raise UserError("no")

    for limit, step in ((5, 5), (20, 6)):  # at the end, and between two checkpoints
        with pytest.raises(UserError, match="no"):
            toy_run(tmp_path, toy_task(validate=fails), max_updates=limit)
        assert torch.load(tmp_path / "checkpoints" / "last.pt")["progress"]["step"] == step
    toy_run(tmp_path / "whole")
    toy_run(tmp_path)
    assert same(weights(tmp_path), weights(tmp_path / "whole"))


def test_a_run_does_not_go_on_with_another_text(tmp_path: Path) -> None:
    toy_run(tmp_path, max_updates=4)
    task = toy_task()
    task.data = {"data.train": "other pairs"}
    with pytest.raises(UserError, match=r"was trained with another text than data\.train is now.*another run_dir"):
        toy_run(tmp_path, task)
    task.data = toy_task().data | {"data.tests.one": "new", "data.tests.two": "new"}
    with pytest.warns(UserWarning, match=r"data\.tests\.one is another text than before"):
        toy_run(tmp_path, task)


@pytest.mark.parametrize(("final", "name"), [("average", "step_000008"), ("best", "best_000006")])
def test_weights_that_are_gone_are_missed_before_training_goes_on(tmp_path: Path, final: Any, name: str) -> None:
    config = toy_config(tmp_path, max_updates=12)
    config = having(config, "checkpoint.final_weights", final)
    toy_run(tmp_path, toy_task(validate=lambda: {"loss": 1.0}), config)
    (tmp_path / "checkpoints" / f"{name}.safetensors").unlink()
    config = having(config, "training.max_updates", 20)
    with pytest.raises(UserError, match=rf"{name}\.safetensors is gone: put it back, or remove"):
        toy_run(tmp_path, toy_task(), config)


@pytest.mark.parametrize(
    ("schedule", "which"),
    [
        ({"name": "linear"}, "last"),
        ({"name": "cosine", "final_ratio": 0.1}, "last"),
        ({"name": "linear", "final_ratio": 0.2}, "average"),
        ({"name": "inverse_sqrt"}, "average"),
        ({"name": "constant"}, "average"),
    ],
)
def test_a_rate_that_has_come_down_ends_with_the_last_weights_and_any_other_with_the_average(
    tmp_path: Path, schedule: dict[str, Any], which: Any
) -> None:
    for name, given in (("by_default", None), ("given", which)):
        config = toy_config(tmp_path / name)
        config = having(config, "schedule", ScheduleConfig(warmup=5, **schedule))
        config = having(config, "checkpoint.final_weights", given)
        toy_run(tmp_path / name, config=config)
    assert same(weights(tmp_path / "by_default"), weights(tmp_path / "given"))


def test_early_stopping_before_the_rate_has_come_down_ends_with_the_average(tmp_path: Path) -> None:
    for name, given in (("by_default", None), ("given", "average")):
        config = toy_config(tmp_path / name, max_updates=100)
        config = having(config, "schedule", ScheduleConfig(name="linear", warmup=5))
        config = having(config, "validation.patience", 2)
        config = having(config, "checkpoint.final_weights", given)
        assert toy_run(tmp_path / name, toy_task(validate=lambda: {"loss": 1.0}), config) == "patience"
    assert same(weights(tmp_path / "by_default"), weights(tmp_path / "given"))


def spoil_at(update: int, task: Any = None) -> Any:
    """A toy task whose weights are far too large before this update is made, so that its loss is infinite."""
    task = task or toy_task()
    load, count = task.load, iter(range(1, 10_000))

    def spoiled(rows: Any) -> Any:
        if next(count) == update:
            with torch.no_grad():
                next(task.model.parameters()).fill_(float("nan"))
        return load(rows)

    task.load = spoiled
    return task


def nothing_but_numbers(run_dir: Path) -> bool:
    files = list(run_dir.rglob("*.safetensors"))
    tensors = [tensor for path in files for tensor in load_file(path).values()]
    if (last := run_dir / "checkpoints" / "last.pt").exists():
        tensors += torch.load(last)["model"].values()
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


@pytest.mark.parametrize("update", [1, 4, 7, 20])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_after_a_divergence_the_folder_goes_on_as_the_message_says(
    tmp_path: Path, update: int, ema_decay: float
) -> None:
    with pytest.raises(UserError, match=f"update {update}: loss or gradient is not finite") as error:
        toy_run(tmp_path, spoil_at(update), ema_decay=ema_decay)
    said = str(error.value)
    assert "\n" not in said
    assert not (tmp_path / "model.safetensors").exists()
    assert nothing_but_numbers(tmp_path)
    kept = (update - 1) // 4 * 4 if update < 7 else (update - 1) // 6 * 6
    lower = re.search(r"--optimizer\.lr ([\d.]+)", said)
    assert lower is not None
    if update <= 4:
        assert "nothing is kept, the first checkpoint comes after update 4. Start again with" in said
    else:
        assert f"update {max(kept, (update - 1) // 4 * 4)} is kept in" in said
        assert said.endswith("--allow_change true")
    config = toy_config(tmp_path, ema_decay=ema_decay)
    config = having(config, "optimizer.lr", float(lower[1]))
    assert toy_run(tmp_path, config=config) == "max_updates"
    rates = [record["lr"] for record in records(tmp_path, "train") if record["step"] > update]
    assert max(rates, default=0) <= config.optimizer.lr < 0.05 / 2
    assert nothing_but_numbers(tmp_path)


def spoiling_optimizer(trainer: Trainer, update: int) -> None:
    """The update with this number leaves a weight that is not a number, which no loss has seen yet."""
    step = trainer.optimizer.step

    def spoiled() -> None:
        step()
        if trainer.progress.step == update:
            with torch.no_grad():
                trainer.parameters[-1][0] = float("inf")

    trainer.optimizer.step = spoiled  # type: ignore[method-assign]


@pytest.mark.parametrize("update", [4, 6, 20])  # before a checkpoint, a validation, the end
@pytest.mark.parametrize("final", ["last", "best", "average"])
def test_weights_that_the_last_update_spoiled_are_not_written(tmp_path: Path, update: int, final: Any) -> None:
    config = toy_config(tmp_path)
    config = having(config, "checkpoint.final_weights", final)
    trainer = Trainer(toy_task(), config)
    spoiling_optimizer(trainer, update)
    with pytest.raises(UserError, match=f"update {update}: weights are not finite"):
        trainer.fit()
    assert not (tmp_path / "model.safetensors").exists()
    assert nothing_but_numbers(tmp_path)
    assert toy_run(tmp_path, config=config) == "max_updates"


def test_a_validation_that_gives_no_number_is_no_best(tmp_path: Path) -> None:
    losses = [float("nan"), 3.0, float("nan"), 2.0]
    run_with_losses(tmp_path, losses, "best", every=6)
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("best_*"))
    assert names == ["best_000012.safetensors", "best_000020.safetensors"]  # of previous.pt, and of last.pt


def test_a_loss_that_explodes_is_warned_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = toy_config(tmp_path, max_updates=60, log_every=1, max_grad_norm=0)
    toy_run(tmp_path / "well", config=toy_config(tmp_path / "well", max_updates=60, log_every=1))
    assert "warning" not in capsys.readouterr().out
    config = having(config, "optimizer.lr", 20.0)
    toy_run(tmp_path, config=config)
    said = capsys.readouterr().out
    assert re.search(r"warning: update \d+: the loss has risen from 2\.\d+ to \d+.*lower optimizer\.lr", said)
    assert said.count("warning") < 10


def test_the_first_lines_say_what_the_rate_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy_run(tmp_path)
    line = capsys.readouterr().out.splitlines()[1]
    assert line == "learning rate (inverse_sqrt): up to 0.05 at update 5, then 0.025 at update 20"


def test_by_the_clock_a_run_in_parts_rises_once_and_ends_at_nothing(tmp_path: Path) -> None:
    """The share of time and the length of warmup are in the checkpoint: a restart neither rises again nor jumps."""

    def part(stop_after: int | None) -> str:
        config = toy_config(tmp_path, max_updates=10**6, max_minutes=0.05, log_every=1)
        config = having(config, "schedule", ScheduleConfig(name="linear"))
        task = toy_task()
        load, count = task.load, iter(range(1, 10**6))

        def slow(rows: Any) -> Any:
            time.sleep(0.005)
            if next(count) == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
            return load(rows)

        task.load = slow
        return toy_run(tmp_path, task, config)

    assert [part(7), part(12), part(None)] == ["signal", "signal", "max_minutes"]
    rates = [record["lr"] for record in records(tmp_path, "train")]
    peak = rates.index(max(rates))
    assert all(a <= b + 1e-12 for a, b in pairwise(rates[: peak + 1]))
    assert all(a >= b for a, b in pairwise(rates[peak:]))
    assert all(b - a <= 0.05 / 10 + 1e-12 for a, b in pairwise(rates))
    assert rates[-1] < 0.01 < 0.04 < rates[peak]
