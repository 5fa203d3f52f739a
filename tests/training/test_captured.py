"""Micro-batches that are recorded once and run again give what they give when Python starts each operation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from transformer_zoo.config import DecoderConfig
from transformer_zoo.data import TokenBatch
from transformer_zoo.models import DecoderOnly
from transformer_zoo.training import captured as module
from transformer_zoo.training import loop
from transformer_zoo.training.captured import WARM_UPS, Captured, Losses, captured
from transformer_zoo.training.gpt import GptObjective
from transformer_zoo.training.task import Task
from transformer_zoo.zoo import get_config
from transformer_zoo.zoo.describe import outline

from .toy import toy_config, toy_run, toy_task

CUDA = torch.device("cuda")


class Tape(TorchDispatchMode):
    """CUDA's graphs on a CPU: notes each operation with its tensors, and computes into the same ones.

    As there, numbers of Python's are what they were when it was recorded, and random ones are drawn again.
    """

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        super().__init__()
        self.parameters = parameters
        self.recorded = self.replayed = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def aside(self, compute: Callable[[], Losses]) -> Losses:
        return compute()

    def record(self, compute: Callable[[], Losses]) -> tuple[Callable[[], None], Losses]:
        self.recorded += 1
        kept = [(p.grad, p.grad.clone()) for p in self.parameters]
        random = torch.get_rng_state()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        with self:
            out = compute()
        calls = self.calls
        for gradient, before in kept:  # CUDA only records: nothing is computed yet
            gradient.copy_(before)
        torch.set_rng_state(random)

        @torch.no_grad()
        def replay() -> None:
            self.replayed += 1
            for func, args, kwargs, before in calls:
                after = func(*args, **kwargs)
                for old, new in zip(tree_leaves(before), tree_leaves(after), strict=True):
                    if isinstance(old, torch.Tensor):
                        old.copy_(new)

        return replay, out


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """The tapes of the runs that follow, which are recorded as on a GPU."""
    made: list[Tape] = []

    def recorded(compute: Any, config: Any, model: Any, device: Any, compiled: bool, **options: Any) -> Captured:
        made.append(Tape(list(model.parameters())))
        return Captured(compute, device, made[-1], compiled=compiled)

    monkeypatch.setattr(loop, "captured", recorded)
    return made


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "model.safetensors")


def assert_same(left: Path, right: Path) -> None:
    for name, value in weights(left).items():
        assert torch.equal(value, weights(right)[name]), name


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_recorded_run_is_the_same_run(accumulate: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    toy_run(tmp_path / "plain", accumulate=accumulate, max_updates=40)
    tapes = request.getfixturevalue("tapes")
    toy_run(tmp_path / "recorded", accumulate=accumulate, max_updates=40)
    assert_same(tmp_path / "plain", tmp_path / "recorded")
    [tape] = tapes
    assert tape.recorded == len({len(rows) for rows in toy_task().plan(0)})  # once for each shape
    assert tape.replayed > 20


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_recorded_run_that_goes_on_is_the_same_run(accumulate: int, tmp_path: Path, tapes: list[Tape]) -> None:
    toy_run(tmp_path / "whole", accumulate=accumulate, max_updates=60)
    for updates in (31, 60):
        toy_run(tmp_path / "parts", accumulate=accumulate, max_updates=updates)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert all(tape.recorded for tape in tapes)


def token_batch(n: int, seed: int) -> TokenBatch:
    tokens = torch.randint(0, 11, (n, 8), generator=torch.Generator().manual_seed(seed))
    return TokenBatch(ids=tokens[:, :-1], targets=tokens[:, 1:], documents=None, positions=None, n_tokens=7 * n)


def gpt_task() -> Task:
    """Windows in batches of 4, and of 2 at the end of an epoch; with dropout everywhere."""
    torch.manual_seed(3)
    config = DecoderConfig(
        vocab_size=11, d_model=16, n_heads=2, d_ff=32, n_layers=2, max_seq_len=7, attention_dropout=0.3, dropout=0.2
    )
    model = DecoderOnly(config)
    return replace(
        toy_task(),
        model=model,
        objective=GptObjective(model),
        plan=lambda epoch: [(4, epoch), (4, epoch + 1000), (2, epoch + 2000)],
        load=lambda entry: token_batch(*entry),
        validate=lambda: {"loss": 1.0},
    )


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_gpt_recorded_is_the_same_gpt(optimizer: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    def train(name: str) -> None:
        config = toy_config(tmp_path / name, accumulate=2, max_updates=20)
        config.optimizer.name = optimizer
        toy_run(tmp_path / name, gpt_task(), config)

    train("plain")
    tapes = request.getfixturevalue("tapes")
    train("recorded")
    assert_same(tmp_path / "plain", tmp_path / "recorded")
    assert tapes[0].recorded == 2
    assert tapes[0].replayed > 15


def test_a_shape_is_recorded_once_it_has_come_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_GRAPHS", 2)
    weight = torch.nn.Parameter(torch.ones(()))

    def compute(batch: Any, scale: torch.Tensor) -> Losses:
        loss = weight * batch.ids.sum()
        (loss * scale).backward()
        return loss.detach(), loss.detach()

    tape = Tape([weight])
    run = Captured(compute, torch.device("cpu"), tape, compiled=False)
    total = 0.0
    for number in range(5):
        for size in (1, 2, 3):  # one shape more than there may be graphs
            batch = token_batch(size, number)
            loss, _ = run(batch, torch.tensor(0.5))
            assert loss == batch.ids.sum()
            total += float(loss)
            assert weight.grad == 0.5 * total
    assert tape.recorded == 2
    assert tape.replayed == 2 * (5 - WARM_UPS)


@pytest.mark.parametrize(
    ("preset", "batch_tokens", "recorded"),
    [
        ("gpt-char", 16384, True),
        ("gpt-nano", 4096, True),
        ("transformer-tiny", 25_000, True),
        ("transformer-base", 25_000, False),
        ("gpt2", 16384, False),
        ("gpt2-xl", 1024, False),
    ],
)
def test_small_micro_batches_of_one_gpu_are_recorded(
    preset: str, batch_tokens: int, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CudaGraphs", lambda device: Tape([]))
    model, config = outline(get_config(preset)), toy_config(Path("x"), batch_tokens=batch_tokens)

    def is_recorded(device: torch.device = CUDA, processes: int = 1) -> bool:
        return isinstance(captured(compute, config, model, device, processes=processes, compiled=True), Captured)

    def compute(batch: Any, scale: torch.Tensor) -> Losses:
        raise NotImplementedError

    assert is_recorded() == recorded
    assert not is_recorded(torch.device("cpu"))
    assert not is_recorded(processes=2)
    if isinstance(model, DecoderOnly):
        model.decoder.recompute = True
        assert not is_recorded()
        model.decoder.recompute = False
    config.cuda_graphs = "never"
    assert not is_recorded()


@pytest.mark.gpu
@pytest.mark.parametrize("compile", ["never", "always"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_recorded_run_on_a_gpu_is_the_same_run(compile: Any, optimizer: Any, tmp_path: Path) -> None:
    for name, updates in (("never", [40]), ("auto", [40]), ("parts", [21, 40])):
        for limit in updates:
            config = toy_config(tmp_path / name, accumulate=2, max_updates=limit)
            config.device, config.precision, config.compile = "cuda", "bfloat16", compile
            config.optimizer.name, config.cuda_graphs = optimizer, "never" if name == "never" else "auto"
            toy_run(tmp_path / name, gpt_task(), config)
    assert_same(tmp_path / "auto", tmp_path / "never")
    assert_same(tmp_path / "auto", tmp_path / "parts")


def test_a_shape_is_that_of_the_tensors_and_of_what_the_loss_takes() -> None:
    def recorded(compiled: bool) -> int:
        def compute(batch: Any, scale: torch.Tensor) -> Losses:
            return scale, scale

        tape = Tape([])
        run = Captured(compute, torch.device("cpu"), tape, compiled=compiled)
        for n_tokens in range(5, 15):
            run(replace(token_batch(2, 0), n_tokens=n_tokens), torch.tensor(1.0))
        return tape.recorded

    assert (recorded(compiled=True), recorded(compiled=False)) == (1, 0)
