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

from tests.having import having
from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig
from transformer_zoo.data import Batch, TokenBatch
from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.training import captured as module
from transformer_zoo.training import loop
from transformer_zoo.training.captured import WARM_UPS, Captured, Losses, captured
from transformer_zoo.training.task import Task
from transformer_zoo.training.tasks.objectives import GptObjective, TranslationObjective
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

    def recorded(compute: Any, config: Any, model: Any, device: Any, **options: Any) -> Captured:
        made.append(Tape(list(model.parameters())))
        return Captured(compute, device, made[-1])

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
    config = DecoderConfig.of(
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
        config = having(config, "optimizer.name", optimizer)
        toy_run(tmp_path / name, gpt_task(), config)

    train("plain")
    tapes = request.getfixturevalue("tapes")
    train("recorded")
    assert_same(tmp_path / "plain", tmp_path / "recorded")
    assert tapes[0].recorded == 2
    assert tapes[0].replayed > 15


def pairs(n: int, seed: int) -> Batch:
    """As many as fit 64 tokens, or fewer; of 3 to 16 tokens a side."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 5, (2, n, 1), generator=generator) * n
    ids = torch.randint(4, 17, (3, n, int(lengths.max())), generator=generator)
    real = torch.arange(ids.size(2)) < lengths
    source, target_in, target_out = (x.where(mask, 0) for x, mask in zip(ids, real[[0, 1, 1]], strict=True))
    return Batch(source, real[0], target_in, target_out, real[1], int(real[1].sum()))


def translation_task(dropout: float = 0.2, *, bucket: bool = False) -> Task:
    """4 or fewer pairs a batch, in a shape of its own or, if so asked, in a bucket also where nothing is recorded."""
    torch.manual_seed(3)
    shape = {"d_model": 16, "n_heads": 2, "d_ff": 32, "n_encoder_layers": 1, "n_decoder_layers": 1}
    model = EncoderDecoder(EncoderDecoderConfig.of(vocab_size=17, dropout=dropout, attention_dropout=dropout, **shape))

    def in_bucket(batch: Batch) -> Batch:
        return batch.in_bucket(0, batch_tokens=64, longest=100)

    def load(entry: Any) -> Batch:
        return in_bucket(pairs(*entry)) if bucket else pairs(*entry)

    return replace(
        toy_task(),
        model=model,
        objective=TranslationObjective(model, label_smoothing=0.1),
        plan=lambda epoch: [(4, epoch), (3, epoch), (4, epoch + 1000), (2, epoch + 2000)],
        load=load,
        in_bucket=in_bucket,
        validate=lambda: {"loss": 1.0},
    )


@pytest.fixture
def formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled is what a compiler is given, whose shapes depend on no number, and nothing else."""

    def compile_(function: Callable[..., Losses], **options: Any) -> Callable[..., Losses]:
        def compiled(*tensors: torch.Tensor) -> Losses:
            with monkeypatch.context() as patch:
                patch.setattr(torch.compiler, "is_compiling", lambda: True)
                return function(*tensors)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_translation_recorded_is_the_same_translation(
    dropout: float, tmp_path: Path, formula: None, request: pytest.FixtureRequest
) -> None:
    """To the bit of the same batches in buckets; without dropout, to rounding of batches in shapes of their own."""

    def train(name: str, limit: int, *, bucket: bool = False) -> None:
        config = toy_config(tmp_path / name, accumulate=2, max_updates=limit)
        config = having(config, "compile", "always")
        config = having(config, "optimizer.eps", 1e-6)
        toy_run(tmp_path / name, translation_task(dropout, bucket=bucket), config)

    train("plain", 40)
    train("buckets", 40, bucket=True)
    tapes = request.getfixturevalue("tapes")
    for name, limits in (("recorded", [40]), ("parts", [21, 40])):
        for limit in limits:
            train(name, limit)
        assert_same(tmp_path / "buckets", tmp_path / name)
    task = translation_task(bucket=True)
    shapes = {task.load(entry).source.shape for epoch in range(20) for entry in task.plan(epoch)}
    assert 0 < tapes[0].recorded <= len(shapes) <= 9
    assert tapes[0].replayed > 40
    assert tapes[2].recorded
    if not dropout:
        for name, value in weights(tmp_path / "plain").items():
            torch.testing.assert_close(weights(tmp_path / "recorded")[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_a_shape_is_recorded_once_it_has_come_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_GRAPHS", 2)
    weight = torch.nn.Parameter(torch.ones(()))

    def compute(batch: Any, scale: torch.Tensor) -> Losses:
        loss = weight * batch.ids.sum()
        (loss * scale).backward()
        return loss.detach(), loss.detach()

    tape = Tape([weight])
    run = Captured(compute, torch.device("cpu"), tape)
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
        return isinstance(captured(compute, config, model, device, processes=processes), Captured)

    def compute(batch: Any, scale: torch.Tensor) -> Losses:
        raise NotImplementedError

    assert is_recorded() == recorded
    assert not is_recorded(torch.device("cpu"))
    assert not is_recorded(processes=2)
    if isinstance(model, DecoderOnly):
        model.decoder.recompute = True
        assert not is_recorded()
        model.decoder.recompute = False
    config = having(config, "cuda_graphs", "never")
    assert not is_recorded()


@pytest.mark.gpu
@pytest.mark.parametrize("compile", ["never", "always"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("task", [gpt_task, lambda: translation_task(bucket=True)], ids=["gpt", "translation"])
def test_a_recorded_run_on_a_gpu_is_the_same_run(
    task: Callable[[], Task], compile: Any, optimizer: Any, tmp_path: Path
) -> None:
    for name, updates in (("never", [40]), ("auto", [40]), ("parts", [21, 40])):
        for limit in updates:
            config = toy_config(tmp_path / name, accumulate=2, max_updates=limit)
            config = having(config, "device", "cuda")
            config = having(config, "precision", "bfloat16")
            config = having(config, "compile", compile)
            config = having(config, "optimizer.name", optimizer)
            config = having(config, "cuda_graphs", "never" if name == "never" else "auto")
            toy_run(tmp_path / name, task(), config)
    assert_same(tmp_path / "auto", tmp_path / "never")
    assert_same(tmp_path / "auto", tmp_path / "parts")


def test_a_shape_is_that_of_the_tensors_alone() -> None:
    def compute(batch: Any, scale: torch.Tensor) -> Losses:
        return scale, scale

    tape = Tape([])
    run = Captured(compute, torch.device("cpu"), tape)
    for n_tokens in range(5, 15):
        run(replace(token_batch(2, 0), n_tokens=n_tokens), torch.tensor(1.0))
    assert tape.recorded == 1
