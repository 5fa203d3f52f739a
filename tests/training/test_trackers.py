"""What follows a run: its bar by the nearest limit, first figures at once, TensorBoard as it is, and other services."""

import html
import importlib.util
import io
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.faults.tiny import main_of, write_recipe
from tests.having import having
from transformer_zoo.errors import UserError
from transformer_zoo.training.config import LoggingConfig
from transformer_zoo.training.logging import RunLog
from transformer_zoo.training.loop import Trainer
from transformer_zoo.training.schedule import Rates
from transformer_zoo.training.trackers import TensorBoard, check_trackers

from .test_loop import records
from .toy import toy_config, toy_run, toy_task

SAMPLE = "# To be *or* <b>not</b> | to_be_ & so on\n\n    1. indented `code`\n---\n[x](y) ![z](w)\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_samples_are_shown_as_they_are(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, step=0)
    board.text("samples", SAMPLE, 3)
    board.scalars({"train/loss": 2.5}, 3)
    board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    [event] = events.Tensors("samples/text_summary")
    with warnings.catch_warnings(action="ignore"):  # of what it carries
        from tensorboard.plugin_util import markdown_to_safe_html
    shown = markdown_to_safe_html(event.tensor_proto.string_val[0])
    [inside] = re.findall(r"<pre><code>(.*)</code></pre>", shown, re.DOTALL)
    assert html.unescape(inside).rstrip("\n") == SAMPLE.rstrip("\n")
    assert [(scalar.step, scalar.value) for scalar in events.Scalars("train/loss")] == [(3, 2.5)]


def test_the_log_says_the_command_that_opens_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "a run"
    toy_run(run_dir, max_updates=1)
    assert f"tensorboard --logdir '{run_dir}/tensorboard'" in capsys.readouterr().out


def test_the_first_figures_come_at_once(tmp_path: Path) -> None:
    toy_run(tmp_path, max_updates=30, log_every=20)
    assert {1, 10} <= {record["step"] for record in records(tmp_path, "train")}


@pytest.mark.parametrize(
    ("limits", "seconds", "share", "words"),
    [
        ({"max_updates": 20}, 1.0, 0.25, "update 5 of 20"),
        ({"max_updates": 1000, "max_epochs": 2}, 1.0, 5 / 12, "epoch 1 of 2, update 5"),
        ({"max_updates": 20, "max_minutes": 2}, 90.0, 0.75, "minute 1.5 of 2"),
        ({"max_updates": 20, "max_epochs": 50, "max_minutes": 600}, 90.0, 0.25, "update 5 of 20"),
        ({"max_updates": 10**6, "max_epochs": 50, "max_minutes": 3}, 90.0, 0.5, "minute 1.5 of 3"),
    ],
)
def test_the_nearest_limit_is_known(
    tmp_path: Path, limits: dict[str, Any], seconds: float, share: float, words: str
) -> None:
    trainer = Trainer(toy_task(), toy_config(tmp_path, **limits))
    rates = Rates(trainer.task.plan, trainer.config, trainer.world, peak=1.0)
    trainer.progress.step, trainer.progress.seconds = 5, seconds
    assert rates.nearest(trainer.progress) == (pytest.approx(share), words)


def test_the_bar_moves_with_every_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, shares = Terminal(), []
    monkeypatch.setattr(sys, "stderr", terminal)
    moved = RunLog.moved

    def seen(log: RunLog, share: float, place: str) -> None:
        moved(log, share, place)
        shares.append((log.bar.n, log.bar.desc))

    monkeypatch.setattr(RunLog, "moved", seen)
    toy_run(tmp_path, max_updates=20)
    assert shares == [(pytest.approx(n / 20), f"update {n} of 20") for n in range(1, 21)]
    assert "100%|" in terminal.getvalue()


class Standing(ModuleType):
    """A package that has the calls of wandb and of trackio, and remembers them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.__spec__ = ModuleType("spec")  # type: ignore[assignment]

    def init(self, **options: Any) -> None:
        self.calls.append(("init", options))
        if options["project"] == "locked":
            raise RuntimeError("no login\nand more")

    def log(self, values: dict[str, Any], *, step: int) -> None:
        self.calls.append(("log", {"step": step, **values}))

    def finish(self) -> None:
        self.calls.append(("finish", {}))

    def Html(self, data: str) -> str:
        return data


@pytest.fixture(params=["wandb", "trackio"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Standing:
    made = Standing(request.param)
    monkeypatch.setitem(sys.modules, request.param, made)
    return made


def follow(run_dir: Path, package: Standing, project: str, **limits: Any) -> None:
    config = toy_config(run_dir, **limits)
    toy_run(run_dir, config=having(config, f"logging.{package.__name__}", project))


def test_a_service_gets_figures_samples_and_recipe_and_goes_on(tmp_path: Path, package: Standing) -> None:
    follow(tmp_path / "x", package, "mine", max_updates=6)
    (first, opened), *between, (last, _) = package.calls
    assert (first, last, opened["project"], opened["config"]["seed"]) == ("init", "finish", "mine", 11)
    assert re.fullmatch(r"x-[0-9a-f]{6}", opened["name"])
    logged = [values for call, values in between if call == "log"]
    assert {values["step"] for values in logged} == {1, 3, 4, 6}
    assert {"train/loss", "valid/loss", "samples"} < set().union(*logged)
    assert all("a sample</pre>" in values["samples"] for values in logged if "samples" in values)
    package.calls.clear()
    follow(tmp_path / "x", package, "mine", max_updates=12)
    assert (package.calls[0][1]["name"], package.calls[0][1]["resume"]) == (opened["name"], "allow")
    with pytest.raises(UserError, match=rf"^logging.{package.__name__}: no login$"):
        follow(tmp_path / "y", package, "locked", max_updates=6)


@pytest.mark.parametrize("recipe", ["translation", "gpt", "masked"])
@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_package_that_is_missing_is_refused_before_training(
    recipe: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda wanted, *more: None if wanted == name else find(wanted, *more)
    )
    path = write_recipe(tmp_path, recipe)
    with pytest.raises(UserError, match=rf"^logging.{name} needs a package: pip install 'transformer-zoo\[{name}\]'$"):
        main_of(recipe)([str(path), f"--logging.{name}", "mine"])
    assert not (tmp_path / "run").exists()


def test_a_project_has_a_name() -> None:
    check_trackers(LoggingConfig())
    with pytest.raises(UserError, match=r"logging\.trackio is empty"):
        check_trackers(LoggingConfig(trackio=""))
