"""What a run needs at least, and that no run is refused that has it."""

from typing import Any

import pytest
import torch

from transformer_zoo.config import n_parameters
from transformer_zoo.errors import UserError
from transformer_zoo.models import memory
from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.memory import check_training
from transformer_zoo.zoo import get_config

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
    setattr(getattr(run, section), field, value)
    run.training.batch_tokens = 100
    needed = 4 * (copies * n_parameters(config) + 100 * vocabulary)
    monkeypatch.setattr(memory, "free_memory", lambda device: float(needed))
    check_training(config, run, CPU)
    monkeypatch.setattr(memory, "free_memory", lambda device: float(needed - 1))
    with pytest.raises(UserError, match=f"at least {needed:,} bytes of memory"):
        check_training(config, run, CPU)
