"""What a run needs at least, and that no run is refused that has it."""

from typing import Any

import pytest
import torch

from tests.having import having
from transformer_zoo.data import Batch, TokenBatch
from transformer_zoo.errors import UserError
from transformer_zoo.models import DecoderOnly, memory
from transformer_zoo.models.empty import n_parameters
from transformer_zoo.training.config import OptimizerConfig, RunConfig
from transformer_zoo.training.memory import StepMemory, check_training
from transformer_zoo.training.optimizer import make_optimizer
from transformer_zoo.training.tasks.objectives import GptObjective, TranslationObjective
from transformer_zoo.zoo import create_model, get_config

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("section", "field", "value", "copies"),
    [
        ("optimizer", "name", "muon", 3),
        ("optimizer", "name", "adam", 4),
        ("optimizer", "name", "adamw", 4),
        ("training", "ema_decay", 0.9, 4),
    ],
)
@pytest.mark.parametrize(("preset", "vocabulary"), [("transformer-tiny", 10_000), ("gpt2", 50257)])
def test_the_least_that_fits_is_taken_and_a_byte_less_is_refused(
    section: str, field: str, value: Any, copies: int, preset: str, vocabulary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = RunConfig(run_dir="x"), get_config(preset)
    run = having(run, f"{section}.{field}", value)
    run = having(run, "training.batch_tokens", 100)
    needed = 4 * (copies * n_parameters(config) + 100 * vocabulary)
    monkeypatch.setattr(memory, "free_memory", lambda device: float(needed))
    check_training(config, run, CPU)
    monkeypatch.setattr(memory, "free_memory", lambda device: float(needed - 1))
    with pytest.raises(UserError, match=f"at least {needed:,} bytes of memory"):
        check_training(config, run, CPU)


def test_of_a_divided_model_a_part_is_needed_and_in_the_first_process_all_weights_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = having(having(RunConfig(run_dir="x"), "optimizer.name", "adamw"), "training.batch_tokens", 100)
    config = get_config("transformer-tiny")
    needed = 4 * (4 * n_parameters(config) // 4 + n_parameters(config) + 100 * 10_000)
    monkeypatch.setattr(memory, "free_memory", lambda device: float(needed))
    check_training(config, run, CPU, parts=4)
    monkeypatch.setattr(memory, "free_memory", lambda device: float(needed - 1))
    with pytest.raises(UserError, match=f"at least {needed:,} bytes of memory.*weights for validation"):
        check_training(config, run, CPU, parts=4)


def run_with(**optimizer: Any) -> RunConfig:
    return RunConfig(run_dir="x", optimizer=OptimizerConfig(**optimizer))


def test_what_a_layer_keeps_by_hand() -> None:
    """GPT-2 without dropout, in bfloat16 (2 bytes), with norms and the stream in 4 bytes; D numbers a token."""
    bare: dict[str, Any] = {"vocab_size": 64, "d_model": 48, "n_heads": 3, "d_ff": 192, "dropout": 0.0}
    bare |= {"attention_dropout": 0.0, "max_seq_len": 32}
    one, two = (StepMemory(get_config("gpt2", n_layers=n, **bare), run_with(name="adamw"), length=32) for n in (1, 2))
    d, t = 48, 32
    attention = 2 * d + 3 * 2 * d + 2 * d + 3 * 4  # the projections' input; q, k, v; output; log Z of three heads
    feed_forward = 2 * d + 2 * 4 * d + 2 * 4 * d  # up's input; the activation's; down's
    norms = 2 * (4 * d + 2 * 4)  # what each is given, mean and deviation
    assert two.of_row - one.of_row == t * (attention + feed_forward + norms)
    weights = 2 * (4 * d * d + 2 * 4 * d * d)  # in bfloat16
    assert two.of_all - one.of_all == weights


@pytest.mark.parametrize("preset", ["gpt2", "gpt-modern", "llama-3.2-1b", "gemma-2-2b", "transformer-base", "t5-small"])
def test_activations_grow_with_the_batch_and_nothing_else_does(preset: str) -> None:
    count = StepMemory(get_config(preset, n_layers=2), run_with(name="muon"), length=64)
    for rows in (1, 3, 40):
        assert count.kept(rows) == count.of_all + rows * count.of_row


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("preset", ["gpt2", "transformer-base"])
def test_the_largest_batch_fits_and_a_larger_one_does_not(preset: str, recompute: bool) -> None:
    count = StepMemory(get_config(preset), run_with(name="adamw"), length=128, recompute=recompute)
    for size in (3e9, 24e9, 141e9):
        rows = count.most_rows(size)
        assert sum(count(rows).values()) <= size < sum(count(rows + 1).values())
    assert count.most_rows(1e8) == 0


def test_recomputing_takes_less() -> None:
    rows = [
        StepMemory(get_config("gpt2"), run_with(), length=1024, recompute=again).most_rows(24e9)
        for again in (False, True)
    ]
    assert rows[1] > 4 * rows[0]


def test_muon_holds_less_than_adam() -> None:
    adam, muon = (StepMemory(get_config("gpt2"), run_with(name=name), length=16).held for name in ("adamw", "muon"))
    assert adam["optimizer"] == 8 * 124_439_808
    assert muon["optimizer"] == adam["optimizer"] - 4 * 12 * 12 * 768 * 768


@pytest.mark.gpu
@pytest.mark.parametrize("preset", ["gpt2", "transformer-base"])
def test_a_step_on_a_gpu_takes_what_was_counted(preset: str) -> None:
    step = StepMemory(get_config(preset), run_with(name="adamw"), length=512)
    rows = 16
    model = create_model(preset).cuda()
    if isinstance(model, DecoderOnly):
        objective: Any = GptObjective(model)
    else:
        objective = TranslationObjective(model)
    objective.compile()
    optimizer = make_optimizer(model, OptimizerConfig(name="adamw"), lr=1e-4)
    ids = torch.ones(rows, 512, dtype=torch.int64, device="cuda")
    mask = torch.ones_like(ids, dtype=torch.bool)
    batch: Any = TokenBatch(ids, ids, None, None, ids.numel())
    if not isinstance(model, DecoderOnly):
        batch = Batch(ids, mask, ids, ids, mask, ids.numel())
    for _ in range(3):
        torch.cuda.reset_peak_memory_stats()
        with torch.autocast("cuda", torch.bfloat16):
            loss, _ = objective(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    most = sum(step(rows).values())
    assert 0.5 * most < torch.cuda.max_memory_allocated() < 1.05 * most
