"""Nothing inside a step waits for the GPU."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import transformer_zoo as tz
from tests.architectures import ARCHITECTURES, TEXT, TRANSLATION, Config, text_batches, translation_batches
from tests.flat import beam_search, generate, taken
from tests.pretended import GPU, Watch, pretend
from transformer_zoo import DecoderOnly, EncoderDecoder, Sampling
from transformer_zoo.inference import Hypothesis, Steps, beam, processors
from transformer_zoo.inference.engine import Engine
from transformer_zoo.inference.sampling import Chooser
from transformer_zoo.inference.search import Search
from transformer_zoo.training import loop
from transformer_zoo.training.config import RunConfig, TrainingConfig
from transformer_zoo.training.loop import Trainer
from transformer_zoo.training.schedule import Rates
from transformer_zoo.training.task import Task
from transformer_zoo.training.tasks.objectives import GptObjective, TranslationObjective
from transformer_zoo.training.window import Window
from transformer_zoo.zoo import build


def n_tensors(batch: Any) -> int:
    return sum(isinstance(getattr(batch, field.name), Tensor) for field in dataclasses.fields(batch))


def trainer_of(config: Config, run_dir: Path, device: torch.device) -> tuple[Trainer, list[Any]]:
    """A trainer on a GPU that is about to update, and the batches of one update."""
    with device:
        model = build(config)
    if isinstance(model, EncoderDecoder):
        objective: Any = TranslationObjective(model, label_smoothing=0.1)
        batches: list[Any] = translation_batches(model.config)
    else:
        objective, batches = GptObjective(model), text_batches()
    task = Task(
        model=model,
        objective=objective,
        plan=lambda epoch: batches,
        load=lambda batch: batch,
        validate=dict,
        samples=list,
        data={},
        d_model=config.d_model,
    )
    training = TrainingConfig(max_updates=100, accumulate=len(batches), ema_decay=0.9, log_every=1000)
    how: dict[str, Any] = {"device": "cuda", "precision": "float32", "compile": "never", "cuda_graphs": "never"}
    run = RunConfig(run_dir=str(run_dir), training=training, **how)
    trainer = Trainer(task, run)
    trainer.log, trainer.window = None, Window(trainer.device)
    trainer.rates = Rates(task.plan, run, trainer.world, peak=trainer.peak_rate)
    trainer.progress.step = 20  # past the first figures, which are waited for
    trainer.objective.train()
    return trainer, batches


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_update_waits_for_nothing_and_copies_its_batches_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "choose_device", lambda *args: GPU)
    monkeypatch.setattr(loop, "peak_flops", lambda *args: 0.0)
    pretend(monkeypatch)
    trainer, batches = trainer_of(ARCHITECTURES[name], tmp_path, GPU)
    with Watch() as watch:
        trainer._update(batches)
    assert watch.crossings == {"aten._to_copy.default without waiting": sum(map(n_tensors, batches))}
    assert not [name for name in watch.operations if "random_" in name or "sparse" in name or "mkldnn" in name]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["transformer-tiny", "gpt-nano"])
def test_a_real_gpu_is_not_waited_for(name: str, tmp_path: Path) -> None:
    trainer, batches = trainer_of(tz.get_config(name), tmp_path, torch.device("cuda", 0))
    pinned = [batch.pin_memory() for batch in batches]
    trainer._update(pinned)  # libraries are loaded
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            trainer._update(pinned)
    finally:
        torch.cuda.set_sync_debug_mode("default")


FILTERS: dict[str, Any] = {"top_k": 9, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2}


@pytest.mark.parametrize(
    ("name", "how"), [*((name, {"temperature": 0}) for name in TEXT), ("gpt, gpt2", {}), ("gpt, gpt2", FILTERS)]
)
def test_writing_is_looked_at_now_and_then(name: str, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def look(chosen: list[Tensor]) -> list[list[int]]:
        looks.append(len(chosen))
        return [[5] * len(tokens) for tokens in chosen]

    monkeypatch.setattr(sys.modules["transformer_zoo.inference.generation"], "look", look)
    pretend(monkeypatch)
    with GPU:
        model = build(TEXT[name])
    assert isinstance(model, DecoderOnly)
    options: dict[str, Any] = {"max_new_tokens": 5, "seed": 0, "ignore_eos": True, "never": [7], "static": True}
    with Watch() as watch:
        answers = generate(model, [[1, 2, 3], [4]], **options, **how)
    assert answers == [[5] * 5] * 2
    assert looks == [3, 2]
    # The prompts and their padding, to be read and for the rules; what is never to be written; the answers.
    assert watch.crossings.total() == 2 + 2 + 1 + 1


@pytest.mark.parametrize(("name", "width"), [*((name, 4) for name in TRANSLATION), ("translation, paper", 1)])
def test_a_search_is_looked_at_now_and_then(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def narrow(search: Search) -> list[int]:
        steps.append(search.tokens.size(2))
        return [search.tokens.size(1) if len(steps) < 3 else 0] * len(search.tokens)

    def finished(search: Search, rows: list[int]) -> list[list[Hypothesis]]:
        return [[Hypothesis([5], 0.0, 0.0, True)] for _ in rows]

    monkeypatch.setattr(Search, "narrow", narrow)
    monkeypatch.setattr(Search, "finished", finished)
    monkeypatch.setattr(beam, "_length_limits", lambda *args: [9, 4, 8])  # asked for once a search
    config = TRANSLATION[name]
    pretend(monkeypatch)
    with GPU:
        model = build(config).eval()
    assert isinstance(model, EncoderDecoder)
    with Watch() as watch:
        found = beam_search(model, [[4, 5, 3], [4, 3], [3]], beam=width, prefix=[[5], [], [5, 6]])
    assert [hypotheses[0].tokens for hypotheses in found] == [[5]] * 3
    assert steps == [3, 6, 9]
    # Sources and their padding, openings, most lenient penalties, limits, prefixes and their padding, what is special.
    assert watch.crossings.total() == 8


@pytest.mark.parametrize("ask", [
    Tensor.item, Tensor.tolist, bool, float, Tensor.nonzero, Tensor.cpu, lambda x: x[x > 0], lambda x: x.unique(),
    lambda x: torch.arange(3).repeat_interleave(x), Tensor.numpy, lambda x: torch.empty(int(x[0])),
])  # fmt: skip
def test_the_pretended_gpu_has_no_answers(ask: Callable[[Tensor], object]) -> None:
    x = torch.ones(1, dtype=torch.int64, device=GPU)
    with pytest.raises((RuntimeError, NotImplementedError, TypeError)):
        ask(x)


def test_the_watch_sees_what_crosses(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    x, there = torch.ones(3), torch.ones(3, device=GPU)
    number = torch.tensor(2.0)
    with Watch() as watch:
        assert (there * 2 + number).device == GPU  # an argument
        assert not watch.crossings
        x.to(GPU)
        torch.tensor([1.0], device=GPU)
        x.to(GPU, non_blocking=True)
        there.copy_(x)
        there[x.long()]
    counted = {"aten._to_copy.default": 2, "aten._to_copy.default without waiting": 1, "aten.copy_.default": 1}
    assert watch.crossings == counted | {"aten.index.Tensor": 1}


@pytest.mark.gpu
@pytest.mark.parametrize("how", [{"temperature": 0}, FILTERS])
def test_a_real_gpu_writes_on_by_itself(how: dict[str, Any]) -> None:
    device = torch.device("cuda", 0)
    with device:
        model = build(TEXT["gpt, grouped"]).eval()
    assert isinstance(model, DecoderOnly)
    prompts, generators = [[1, 2, 3], [4]], [torch.Generator(device).manual_seed(i) for i in range(2)]
    sampling, texts = taken(Sampling, {**how}), torch.tensor([[1, 2, 3], [-1, -1, 4]], device=device)
    with torch.inference_mode():
        chooser = Chooser(sampling, processors(sampling, model, [7]), generators, texts)
        engine = Engine(model, prompts, 17, Steps(stride=4, static=True))
        chosen = chooser.choose(engine.read(prompts)[:, 0])
        chosen = chooser.choose(engine.go_on(chosen)[:, 0])  # captured
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(8):
                chosen = chooser.choose(engine.go_on(chosen)[:, 0])
        finally:
            torch.cuda.set_sync_debug_mode("default")
