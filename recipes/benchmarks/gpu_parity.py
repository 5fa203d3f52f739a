"""Part 1 of gpu.py: the GPU computes what the CPU does, and a run that was stopped goes on bit for bit.

`pytest -m gpu` asks the same functions (tests/recipes/test_gpu_parity.py).
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

import transformer_zoo as tz
from recipes.benchmarks.gpu_report import Figure
from recipes.benchmarks.gpu_setting import NotHere, Setting, deterministic, distance
from transformer_zoo import BeamSearch, DecoderOnly, EncoderDecoder, Sampling
from transformer_zoo.data import Batch, TokenBatch
from transformer_zoo.inference import Steps, beam_search, generate, generate_plainly
from transformer_zoo.training import distributed
from transformer_zoo.training.config import (
    CheckpointConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    TrainingConfig,
    ValidationConfig,
)
from transformer_zoo.training.loop import Trainer
from transformer_zoo.training.task import Feed, Task
from transformer_zoo.training.tasks.objectives import GptObjective, TranslationObjective

FAMILIES = {
    "GPT-2": "gpt2",
    "Llama": "llama-3.2-1b",
    "Transformer": "transformer-base",
    "T5": "t5-small",
}  # fmt: skip
SMALL: dict[str, Any] = {"d_model": 256, "n_heads": 4, "d_ff": 640, "vocab_size": 1009, "max_seq_len": 256}
CLOSE, CLOSE_GRADIENT = 1e-4, 1e-3  # float32 on both sides, sums in another order
ROUNDED, ROUNDED_GRADIENT = 3e-2, 1e-1  # bfloat16 products beside float32


def small(family: str, setting: Setting) -> Any:
    """A model with the structure of the family that both devices compute in moments, on the CPU."""
    config = FAMILIES[family]
    layers: dict[str, Any] = (
        {"n_layers": 3} if family in ("GPT-2", "Llama") else {"n_encoder_layers": 2, "n_decoder_layers": 2}
    )
    heads = {"head_dim": 64} if family == "T5" else {"n_kv_heads": 2} if family == "Llama" else {}
    model = replace(setting, device=torch.device("cpu")).model(config, **SMALL, **layers, **heads)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:  # biases of 0 and norms of 1 would hide what is not added or multiplied
                weight.add_(torch.randn_like(weight), alpha=0.02)
    return model.eval()


def batch_of(model: Any, setting: Setting) -> Batch | TokenBatch:
    """Texts of different length, on the CPU."""
    torch.manual_seed(2)
    b, n, vocab_size = 6, setting.size(93, 13), model.config.vocab_size
    ids = torch.randint(10, vocab_size - 10, (b, n))
    if isinstance(model, DecoderOnly):
        return TokenBatch(ids, ids.roll(-1, 1), None, None, ids.numel())
    lengths = torch.arange(n - b + 1, n + 1)
    mask = torch.arange(n) < lengths[:, None]
    target = torch.randint(10, vocab_size - 10, (b, n)).masked_fill(~mask, model.config.pad_id)
    begun = torch.cat([torch.full((b, 1), model.config.bos_id), target[:, :-1]], dim=1)
    source = ids.masked_fill(~mask, model.config.pad_id)
    return Batch(source, mask, begun, target, mask, int(mask.sum()))


def logits_of(model: Any, batch: Any) -> Tensor:
    """(N, V), of the real tokens."""
    if isinstance(model, EncoderDecoder):
        of_targets: Tensor = model(batch.source, batch.target_in, batch.source_mask, batch.target_mask)
        return of_targets[batch.target_mask].float()
    mask = torch.ones_like(batch.ids, dtype=torch.bool)
    mask[::2, :5] = False  # padding on the left
    logits: Tensor = model(batch.ids, mask)
    return logits[mask].float()


def gradient_of(model: Any, batch: Any, autocast: Any) -> list[Tensor]:
    """The gradient of a batch's mean loss, weight by weight."""
    objective: Any = TranslationObjective(model) if isinstance(model, EncoderDecoder) else GptObjective(model)
    with autocast:
        loss, _ = objective(batch)
    (loss / batch.n_tokens).backward()
    found = [p.grad if p.grad.layout == torch.strided else p.grad.to_dense() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return found


def numbers(family: str, setting: Setting) -> Iterator[Figure]:
    """Logits and gradients of a family, in float32 and under bfloat16 autocast, beside the CPU's in float32."""
    here = small(family, setting)
    there = copy.deepcopy(here).to(setting.device)
    batch = batch_of(here, setting)
    moved, off = batch.to(setting.device), torch.autocast(setting.device.type, enabled=False)
    with torch.no_grad():
        expected = logits_of(here, batch)
        bound = partial(Figure, at_most=True, note="norm of the difference / norm of the CPU's in float32")
        yield bound("forward, float32", distance(logits_of(there, moved), expected), aim=CLOSE)
        with setting.autocast():
            yield bound("forward, bfloat16", distance(logits_of(there, moved), expected), aim=ROUNDED)
    gradient = gradient_of(here, batch, torch.autocast("cpu", enabled=False))
    yield bound("gradient, float32", distance(gradient_of(there, moved, off), gradient), aim=CLOSE_GRADIENT)
    rounded = gradient_of(there, moved, setting.autocast())
    yield bound("gradient, bfloat16", distance(rounded, gradient), aim=ROUNDED_GRADIENT)


def writing(family: str, setting: Setting) -> Iterator[Figure]:
    """What a family writes with a cache, captured and compiled, beside what the CPU writes without a cache."""
    here = small(family, setting)
    there = copy.deepcopy(here).to(setting.device)
    if isinstance(here, EncoderDecoder):
        yield from _searching(here, there, setting)
        return
    prompts = [[11 + (i * j) % 90 for j in range(1, 6 + 3 * i)] for i in range(1, 5)]
    greedy = Sampling(temperature=0)
    how: dict[str, Any] = {"max_new_tokens": setting.size(40, 8), "ignore_eos": True}
    expected = [generate_plainly(here, prompt, greedy, **how) for prompt in prompts]
    ways: dict[str, dict[str, Any]] = {
        "cached": {"static": False}, "captured": {"static": True}, "compiled": {"static": True, "compile": True},
    }  # fmt: skip
    for name, way in ways.items():
        yield _same(f"{name} decoding", generate(there, prompts, greedy, **how, steps=Steps(**way)), expected)


def _searching(here: EncoderDecoder, there: EncoderDecoder, setting: Setting) -> Iterator[Figure]:
    batch = batch_of(here, setting)
    assert isinstance(batch, Batch)
    moved = batch.to(setting.device)
    for name, beam in (("cached decoding, greedy", 1), ("cached decoding, beam 4", 4)):
        how = BeamSearch(beam=beam, max_length=setting.size(24, 6))
        expected, found = (
            [best[0].tokens for best in beam_search(model, of.source, how, source_mask=of.source_mask)]
            for model, of in ((here, batch), (there, moved))
        )
        yield _same(name, found, expected)
    for name in ("captured", "compiled"):
        yield Figure(f"{name} decoding", note="a search drops sources as they end: its steps have no fixed shape")


def _same(name: str, found: list[list[int]], expected: list[list[int]]) -> Figure:
    other = sum(a != b for one, two in zip(found, expected, strict=True) for a, b in zip(one, two, strict=False)) + sum(
        abs(len(one) - len(two)) for one, two in zip(found, expected, strict=True)
    )
    return Figure(name, other, "tokens differ", 0, True, f"of {sum(map(len, expected))}")


def family(setting: Setting, name: str) -> Iterator[Figure]:
    """All of one family."""
    torch.set_float32_matmul_precision("highest")  # TF32 is another precision, and not what is compared
    yield from numbers(name, setting)
    yield from writing(name, setting)


@dataclass
class _Toy:
    """A GPT with dropout, and random texts."""

    setting: Setting
    n_batches: int = 5

    def task(self) -> Task:
        """The same weights each time."""
        size = self.setting.size(128, 32)
        torch.manual_seed(3)
        model: Any = tz.create_model(
            "gpt2", d_model=size, n_heads=4, d_ff=2 * size, n_layers=2, vocab_size=300, max_seq_len=64, dropout=0.1,
            eos_id=None,
        )  # fmt: skip
        return Task(
            model=model, objective=GptObjective(model), plan=lambda epoch: range(self.n_batches),
            load=self.load, validate=lambda: {"loss": 1.0}, samples=list, data={"data.train": "made up"}, d_model=size,
        )  # fmt: skip

    def load(self, number: int) -> TokenBatch:
        """Batch `number`, on the CPU."""
        rows = torch.from_numpy(np.random.default_rng(number).integers(0, 300, (8, 65)))
        return TokenBatch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), None, None, 8 * 64)

    def train(self, folder: Path, updates: int) -> dict[str, Tensor]:
        """The weights after so many updates, from where the folder stands."""
        folder.mkdir(exist_ok=True)
        config = RunConfig(
            run_dir=str(folder), device=self.setting.device.type, compile="never",
            optimizer=OptimizerConfig(name="adamw", lr=1e-3), schedule=ScheduleConfig(name="constant", warmup=2),
            training=TrainingConfig(max_updates=updates), validation=ValidationConfig(every=1000),
            checkpoint=CheckpointConfig(every=1000),
        )  # fmt: skip
        task = self.task()
        Trainer(task, config).fit()
        return {name: weight.detach().cpu() for name, weight in task.model.state_dict().items()}


def resumed(setting: Setting) -> Iterator[Figure]:
    """A run of 12 updates, and one that stopped after 7: with dropout, in the middle of an epoch."""
    for name, aim, kernels in (
        ("weights that differ, deterministic kernels", 0.0, True),
        ("weights that differ, kernels as usual", None, False),
    ):
        with TemporaryDirectory() as place:
            whole, parts = Path(place) / "whole", Path(place) / "parts"
            toy = _Toy(setting)
            if kernels:
                with deterministic():
                    expected, _, found = toy.train(whole, 12), toy.train(parts, 7), toy.train(parts, 12)
            else:
                expected, _, found = toy.train(whole, 12), toy.train(parts, 7), toy.train(parts, 12)
        other = sum(int((found[key] != weight).sum()) for key, weight in expected.items())
        yield Figure(name, other, "", aim, True, f"of {sum(w.numel() for w in expected.values()):,}, bit for bit")


def prefetch(setting: Setting) -> Iterator[Figure]:
    """Batches that a thread loads ahead into pinned memory are those of the plan, in its order."""
    toy = _Toy(setting)
    feed = Feed(lambda epoch: range(toy.n_batches), toy.load, 2, distributed.World(0, 1, 0), setting.device)
    updates = feed.updates(0, 0)
    batches: list[Any] = [batch for _ in range(6) for batch in next(updates)[1]]
    updates.close()
    order = [0, 1, 2, 3, 4] * 2
    wrong = sum(
        not torch.equal(batch.to(setting.device, non_blocking=True).ids.cpu(), toy.load(number).ids)
        for batch, number in zip(batches, order, strict=True)
    )
    yield Figure("batches that are not the plan's", wrong, "", 0, True, f"of {len(batches)}")
    if setting.device.type != "cuda":
        raise NotHere("memory is pinned for a GPU only")
    yield Figure("batches in pinned memory", sum(batch.ids.is_pinned() for batch in batches), "", len(batches))
