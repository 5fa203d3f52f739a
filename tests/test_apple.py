"""On an Apple GPU, which is pretended: no float64, no pinned memory, no fused optimizer."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.architectures import ARCHITECTURES, TEXT, text_batches, translation_batches
from tests.flat import generate
from tests.pretended import GPU, Watch, pretend
from tests.test_no_waiting import trainer_of
from transformer_zoo import DecoderOnly, EncoderDecoder
from transformer_zoo.evaluation import text_score
from transformer_zoo.inference.sampling import generators_of, sample
from transformer_zoo.kernels import cpu
from transformer_zoo.training import loop
from transformer_zoo.training.distributed import World
from transformer_zoo.training.loss import total_nll
from transformer_zoo.training.task import Feed
from transformer_zoo.training.tasks.objectives import GptObjective, TranslationObjective
from transformer_zoo.zoo import build

MPS = torch.device("mps", 0)


def first_of_each_kind(configs: dict[str, Any]) -> dict[str, Any]:
    """One architecture for each way to tell positions, which is where float64 is from."""
    found: dict[Any, str] = {}
    for name, config in configs.items():
        told = [stack.positions for _, stack in config.stacks()]
        found.setdefault(str([(type(how), type(getattr(how, "scaling", None))) for how in told]), name)
    return {name: configs[name] for name in found.values()}


generation = sys.modules["transformer_zoo.inference.generation"]  # the function hides it
SAMPLED: dict[str, Any] = {"top_k": 9, "top_p": 0.9, "min_p": 0.01}


class Apple(Watch):
    """Counts what would be float64 on the GPU, and answers with zeros when the CPU asks it for numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.wide: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = str(func), kwargs or {}
        is_answer = (
            name.startswith(("aten._to_copy.", "aten.to."))
            and args[0].device == GPU
            and kwargs.get("device") is not None
        )
        if is_answer and torch.device(kwargs["device"]).type == "cpu":
            if kwargs.get("dtype") == torch.float64:  # it would be widened before it leaves
                self.wide.append(f"{name}, out")
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype, device="cpu")
        out = super().__torch_dispatch__(func, types, args, kwargs)
        made = out if isinstance(out, tuple | list) else [out]
        if any(isinstance(x, Tensor) and x.device == GPU and x.dtype == torch.float64 for x in made):
            self.wide.append(name)
        return out


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> Apple:
    """The pretended GPU has no float64; what is computed elsewhere is brought to it."""
    monkeypatch.setattr(cpu, "_WITHOUT_FLOAT64", {GPU.type})
    pretend(monkeypatch)
    return Apple()


@pytest.mark.parametrize("name", first_of_each_kind(ARCHITECTURES))
def test_a_model_is_built_and_trained_without_float64(
    name: str, apple: Apple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "choose_device", lambda *args: GPU)
    monkeypatch.setattr(loop, "peak_flops", lambda *args: 0.0)
    with apple:
        trainer, batches = trainer_of(ARCHITECTURES[name], tmp_path, GPU)
        trainer._update(batches)
    assert trainer.window.sums.device.type == "cpu"
    assert apple.operations
    assert apple.wide == []


@pytest.mark.parametrize("name", ["translation, paper", "gpt, gpt2"])
def test_validation_adds_up_elsewhere(name: str, apple: Apple) -> None:
    with apple, GPU:
        model = build(ARCHITECTURES[name])
    if isinstance(model, EncoderDecoder):
        objective, batches = TranslationObjective(model), translation_batches(model.config)
    else:
        assert isinstance(model, DecoderOnly)
        objective, batches = GptObjective(model), text_batches()
    with apple:
        nats, tokens = total_nll(objective, batches)
        if isinstance(model, DecoderOnly):
            assert text_score(model, [([5, 7, 7], 3)]).nats == 0
    assert (nats, tokens) == (0, sum(batch.n_tokens for batch in batches))
    assert apple.wide == []


@pytest.mark.parametrize("name", first_of_each_kind(TEXT))
def test_it_writes_without_float64(name: str, apple: Apple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "look", lambda chosen: [[5] * len(tokens) for tokens in chosen])
    with apple, GPU:
        model = build(TEXT[name])
    assert isinstance(model, DecoderOnly)
    with apple:
        answers = generate(model, [[1, 2, 3], [4]], max_new_tokens=3, seed=0, ignore_eos=True, **SAMPLED)
    assert [len(answer) for answer in answers] == [3, 3]
    assert apple.wide == []


def test_the_watch_sees_float64(apple: Apple) -> None:
    x = torch.ones(3, device=GPU)
    with apple:
        assert x.to("cpu").tolist() == [0, 0, 0]
        assert apple.wide == []
        x.double()
        x.to("cpu", torch.float64)
    assert apple.wide == ["aten._to_copy.default", "aten._to_copy.default, out"]


def test_generators_are_where_noise_can_be_drawn() -> None:
    assert [one.device.type for one in generators_of([1, 2], MPS)] == ["cpu", "cpu"]
    logits = torch.tensor([[0.0, 50.0, 0.0]])
    assert sample(logits, generators_of([1], MPS)).tolist() == [1]


def test_no_memory_is_pinned() -> None:
    [batch, *_] = text_batches()
    feed = Feed(lambda epoch: [batch], lambda entry: entry, 1, World(), MPS)
    _, [loaded] = next(feed.updates(0, 0))
    assert loaded is batch
