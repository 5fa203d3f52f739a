"""The sections of a recipe that every model family shares, as typed dataclasses."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from transformer_zoo.errors import UserError


@dataclass(kw_only=True)
class OptimizerConfig:
    """Adam, AdamW or Muon.

    Args:
        name: `adam` as in the paper; `adamw`, whose decoupled weight decay touches matrices only; or `muon` for the
            matrices of the layers and AdamW for everything else.
        lr: Peak learning rate. The `noam` schedule ignores it: there d_model and warmup set the peak.
        adam_lr: `muon`: peak learning rate of what Adam updates, embeddings, the output projection, norms and biases;
            by default `lr`.
        betas: Decay rates of the first and the second moment.
        eps: Added to the denominator.
        momentum: Decay of Muon's momentum.
        ns_steps: Newton-Schulz steps by which Muon makes an update orthogonal; fewer are faster and rougher.
        weight_decay: Decoupled weight decay of matrices, never of norms and biases; needs `adamw` or `muon`.
    """

    name: Literal["adam", "adamw", "muon"] = "adam"
    lr: float = 1e-3
    adam_lr: float | None = None
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    momentum: float = 0.95
    ns_steps: int = 5
    weight_decay: float = 0.0


@dataclass(kw_only=True)
class ScheduleConfig:
    """Learning rate as a function of the update number, which starts at 1.

    Args:
        name: `noam` (the paper's), `inverse_sqrt` (the same curve, named by its peak `optimizer.lr`),
            `constant`, `linear` and `cosine` (both end where training does by its limits), or `wsd` (warmup, stable,
            then linear decay).
        warmup: Updates of linear warmup.
        factor: Factor of the noam curve.
        decay: `wsd`: how many of the last updates decay.
        final_ratio: `linear`, `cosine`, `wsd`: learning rate at the end as a fraction of the peak.
    """

    name: Literal["noam", "inverse_sqrt", "constant", "linear", "cosine", "wsd"] = "inverse_sqrt"
    warmup: int = 4000
    factor: float = 1.0
    decay: int = 0
    final_ratio: float = 0.0


@dataclass(kw_only=True)
class TrainingConfig:
    """What one update is made of, and when training stops. The first limit that is reached stops it.

    Args:
        batch_tokens: Most tokens of a micro-batch on either side, padding included.
        accumulate: Micro-batches per update on each process; their gradients are summed before the step.
        update_tokens: Tokens of an update, all processes together, in place of `accumulate`: it takes as many
            micro-batches as come nearest; 0: `accumulate` counts.
        max_updates: Stop after this many updates.
        max_epochs: Stop after this many passes over the training text.
        max_minutes: Stop after this wall-clock time, validation included and summed over restarts. A schedule
            that decays is stretched to end then. A run that goes by the clock cannot be repeated bit for bit.
        max_grad_norm: Clip the norm of the whole gradient to this; 0 turns it off.
        ema_decay: Decay of an exponential moving average of the weights, which is validated and saved instead
            of the weights themselves; 0 turns it off.
        log_every: Updates between two lines of metrics.
    """

    batch_tokens: int = 4096
    accumulate: int = 1
    update_tokens: int = 0
    max_updates: int = 100_000
    max_epochs: int | None = None
    max_minutes: float | None = None
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0
    log_every: int = 50

    def micro_batches(self, world_size: int) -> int:
        """Micro-batches of an update on each of `world_size` processes."""
        if not self.update_tokens:
            return self.accumulate
        return max(1, round(self.update_tokens / (self.batch_tokens * world_size)))


@dataclass(kw_only=True)
class ValidationConfig:
    """When and how a run is validated, and which checkpoint counts as the best.

    Args:
        every: Updates between two validations. The last update is always validated.
        best_by: Metric that the best checkpoint is chosen by: `loss` is the plain NLL.
        patience: Stop after this many validations in a row without a new best; 0 never stops early.
        samples: How many sample outputs are shown and kept in samples.txt.
    """

    every: int = 1000
    best_by: Literal["loss"] = "loss"
    patience: int = 0
    samples: int = 3


@dataclass(kw_only=True)
class CheckpointConfig:
    """What is written while training, and which weights the run ends with.

    Args:
        every: Updates between two checkpoints. A run that is killed goes on from the last one.
        average_last: How many of the last checkpoints are kept and averaged at the end.
        final_weights: Weights of the finished run: the `average` of the last checkpoints, the `best`
            validated, or the `last`.
    """

    every: int = 1000
    average_last: int = 5
    final_weights: Literal["average", "best", "last"] = "average"


@dataclass(kw_only=True)
class RunConfig:
    """What every recipe has.

    Args:
        run_dir: Folder of the run. Starting again in it goes on with the run.
        seed: Seed of initialisation, dropout and the order of batches.
        device: `auto` takes CUDA where there is one; or `cpu`, `cuda`, `cuda:1`.
        precision: `auto` takes bfloat16 where the hardware multiplies it fast, else float32.
        compile: Whether torch.compile is used; `auto` does so on CUDA only. (on and off are true and false in YAML.)
        optimizer: Optimizer.
        schedule: Learning rate.
        training: Updates and limits.
        validation: Validation.
        checkpoint: Checkpoints and final weights.
    """

    run_dir: str
    seed: int = 1
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "always", "never"] = "auto"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        if self.run_dir.startswith("~"):
            self.run_dir = str(Path(self.run_dir).expanduser())

    def validate(self) -> None:
        """Checks the ranges of all fields and how they fit together.

        Raises:
            UserError: names the field.
        """
        if not self.run_dir:
            raise UserError("run_dir is empty: name a folder")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed is {self.seed}, expected from 0 to 2^63 - 1")
        for section in ("optimizer", "schedule", "training", "validation", "checkpoint"):
            for name, value in dataclasses.asdict(getattr(self, section)).items():
                least = AT_LEAST.get(f"{section}.{name}", 0)
                if isinstance(value, int | float) and not least <= value < float("inf"):
                    raise UserError(f"{section}.{name} is {value}, expected at least {least}")
        betas = [("optimizer.betas", beta) for beta in self.optimizer.betas]
        momentum = ("optimizer.momentum", self.optimizer.momentum)
        for where, share in [("training.ema_decay", self.training.ema_decay), momentum, *betas]:
            if not 0 <= share < 1:
                raise UserError(f"{where} is {share}, expected from 0 to less than 1")
        if self.training.max_minutes == 0:
            raise UserError("training.max_minutes is 0, expected more; leave it out for no limit")
        if self.optimizer.adam_lr is not None and not self.optimizer.lr:
            raise UserError("optimizer.lr is 0, and optimizer.adam_lr goes up and down with it: give one above 0")
        if self.schedule.name == "wsd" and not 0 < self.schedule.decay <= self.training.max_updates:
            raise UserError("schedule.decay must be from 1 to training.max_updates for schedule.name: wsd")


# Everything else is at least 0.
AT_LEAST = {
    "optimizer.ns_steps": 1,
    "training.batch_tokens": 1, "training.accumulate": 1, "training.max_updates": 1, "training.max_epochs": 1,
    "training.log_every": 1, "validation.every": 1, "validation.sample_tokens": 1, "checkpoint.every": 1,
    "checkpoint.average_last": 1,
}  # fmt: skip
