"""A family of its own for the trainer: which of 11 classes follows which. As a script it is a run."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transformer_zoo.training.config import (
    CheckpointConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    TrainingConfig,
    ValidationConfig,
)
from transformer_zoo.training.loop import Trainer
from transformer_zoo.training.task import Task

CLASSES, WIDTH, PAIRS = 11, 13, 96


@dataclass(frozen=True)
class ToyBatch:
    inputs: Tensor
    targets: Tensor

    @property
    def n_tokens(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "ToyBatch":
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))

    def pin_memory(self) -> "ToyBatch":
        return self


class ToyObjective(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ToyBatch) -> tuple[Tensor, Tensor]:
        nll = nn.functional.cross_entropy(self.model(batch.inputs), batch.targets, reduction="sum")
        return nll, nll.detach()


def toy_task(*, cuts: int = 6, dropout: float = 0.2, validate: Any = None) -> Task:
    """Each epoch's 96 pairs in random order, cut into `cuts` micro-batches of unlike sizes."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Embedding(CLASSES, WIDTH), nn.Dropout(dropout), nn.Linear(WIDTH, CLASSES))
    model.double()
    data = np.random.default_rng(5).integers(0, CLASSES, (PAIRS, 2))

    def plan(epoch: int) -> list[Any]:
        order = np.random.default_rng([7, epoch]).permutation(PAIRS)
        bounds = [round(PAIRS * (i / cuts) ** 1.1) for i in range(1, cuts)]
        return np.split(order, bounds)

    def load(rows: Any) -> ToyBatch:
        return ToyBatch(*torch.from_numpy(data[rows]).unbind(1))

    objective = ToyObjective(model)

    def measure() -> dict[str, int | float]:
        loss, _ = objective(load(np.arange(PAIRS)))
        torch.rand(3)  # a validation that draws random numbers changes nothing
        return {"loss": loss.item() / PAIRS}

    return Task(
        model=model,
        objective=objective,
        plan=plan,
        load=load,
        validate=validate or measure,
        samples=lambda: ["a sample"],
        data={"data.train": "pairs", "data.tests.one": "others"},
        d_model=WIDTH,
    )


def toy_config(run_dir: Path, **training: Any) -> RunConfig:
    """20 updates, a checkpoint every 4, a validation every 6."""
    return RunConfig(
        run_dir=str(run_dir),
        seed=11,
        device="cpu",
        precision="float32",
        compile="never",
        optimizer=OptimizerConfig(name="adam", lr=0.05),
        schedule=ScheduleConfig(name="inverse_sqrt", warmup=5),
        training=TrainingConfig(**{"max_updates": 20, "log_every": 3, **training}),
        validation=ValidationConfig(every=6),
        checkpoint=CheckpointConfig(every=4, average_last=3),
    )


def toy_run(run_dir: Path, task: Task | None = None, config: RunConfig | None = None, **training: Any) -> str:
    """Trains, and says why it ended."""
    run_dir.mkdir(parents=True, exist_ok=True)
    return Trainer(task or toy_task(), config or toy_config(run_dir, **training)).fit()


if __name__ == "__main__":
    settings = {name: float(value) for name, value in (word.split("=") for word in sys.argv[3:])}
    toy_run(Path(sys.argv[1]), accumulate=int(sys.argv[2]), **settings)
