"""The sections of a recipe that every model family shares, as typed dataclasses."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformer_zoo.errors import UserError
from transformer_zoo.training.fields import check_effects, check_ranges, defaults_of, flatten


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam, AdamW or Muon.

    Args:
        name: `adam` as in the paper; `adamw`, whose decoupled weight decay touches matrices only; or `muon` for the
            matrices of the layers and AdamW for everything else.
        lr: Peak learning rate; not with the `noam` schedule, where d_model and `schedule.factor` set it. By default
            d_model^-0.5 * 4000^-0.5, the paper's, with `muon` six times that, and a tenth where training goes on from
            model.init_from.
        adam_lr: `muon`: peak learning rate of what Adam updates, embeddings, the output projection, norms and biases;
            by default as `lr`.
        betas: Decay rates of the first and the second moment.
        eps: Added to the denominator.
        momentum: `muon`: decay of its momentum.
        ns_steps: `muon`: Newton-Schulz steps that make an update orthogonal, fewer are faster, rougher.
        weight_decay: Decoupled weight decay of matrices, never of norms and biases; needs `adamw` or `muon`.
    """

    name: Literal["adam", "adamw", "muon"] = "muon"
    lr: float | None = None
    adam_lr: float | None = None
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    momentum: float = 0.95
    ns_steps: int = 5
    weight_decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate as a function of the update number, which starts at 1.

    Args:
        name: `noam` (the paper's), `inverse_sqrt` (the same curve, named by its peak `optimizer.lr`),
            `constant`, `linear` and `cosine` (both end where training does by its limits), or `wsd` (warmup, stable,
            then linear decay).
        warmup: Updates of linear warmup; by default a twentieth of those that are planned, from 10 to 4,000. Under
            `training.max_minutes` that is the share of time that has passed. With `noam` a warmup that is given sets
            the peak too: the paper's curve has that at (d_model * warmup)^-0.5.
        factor: `noam`: factor of its curve.
        decay: `wsd`: how many of the last updates decay; by default a fifth of them.
        final_ratio: `linear`, `cosine`, `wsd`: learning rate at the end as a fraction of the peak.
    """

    name: Literal["noam", "inverse_sqrt", "constant", "linear", "cosine", "wsd"] = "linear"
    warmup: int | None = None
    factor: float = 1.0
    decay: int | None = None
    final_ratio: float = 0.0


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What is written while training, and which weights the run ends with.

    Args:
        every: Updates between two checkpoints. A run that is killed goes on from the last one.
        average_last: How many of the last checkpoints are kept and averaged at the end.
        final_weights: Weights of the finished run: the `average` of the last checkpoints, the `best`
            validated, or the `last`; by default the last where the learning rate has come down to a tenth of its peak
            or less, else the average.
    """

    every: int = 1000
    average_last: int = 5
    final_weights: Literal["average", "best", "last"] | None = None


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """Where a run can be followed beside its own folder, which has metrics.jsonl and TensorBoard's files.

    Args:
        wandb: Project of Weights & Biases, to which figures, samples and the recipe are sent; needs
            `pip install 'transformer-zoo[wandb]'`, and a login, or WANDB_MODE=offline.
        trackio: Project of trackio, whose dashboard is on this machine; needs `pip install 'transformer-zoo[trackio]'`.
    """

    wandb: str | None = None
    trackio: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every recipe has.

    Args:
        run_dir: Folder of the run. Starting again in it goes on with the run.
        seed: Seed of initialisation, dropout and the order of batches.
        device: `auto` takes CUDA where there is one; or `cpu`, `cuda`, `cuda:1`.
        precision: Of matrix products and of what is kept for the backward pass: `auto` takes bfloat16 where the
            hardware multiplies it fast, else float32. Weights, their gradients and what the optimizer keeps are float32
            always; products that remain float32 a GPU takes in TF32.
        compile: Whether torch.compile is used; `auto` does so on CUDA only. (on and off are true and false in YAML.)
        cuda_graphs: `auto` records micro-batches that are so small that one GPU would wait for Python, and starts all
            of their kernels at once. docs/gpu.md says which are.
        allow_change: Go on with the run in the folder though `optimizer` (but for its name), `schedule`, `training`,
            `validation`, `checkpoint` or `precision` are not what they were: after a loss that was not finite, say. It
            is not kept in the run.
        export: The other program that the finished run is written for too, to `export` in its folder. A model or a
            tokenizer that it has no counterpart of is refused before training.
        optimizer: Optimizer.
        schedule: Learning rate.
        training: Updates and limits.
        validation: Validation.
        checkpoint: Checkpoints and final weights.
        logging: Where else it can be followed.
        model: Model.
    """

    run_dir: str
    seed: int = 1
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "always", "never"] = "auto"
    cuda_graphs: Literal["auto", "never"] = "auto"
    allow_change: bool = False
    export: Literal["huggingface", "ctranslate2"] | None = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    model: Any = None

    def __post_init__(self) -> None:
        if self.run_dir.startswith("~"):
            object.__setattr__(self, "run_dir", str(Path(self.run_dir).expanduser()))

    def validate(self) -> None:
        """Checks the ranges of all fields and how they fit together.

        Raises:
            UserError: names the field.
        """
        if not self.run_dir:
            raise UserError("run_dir is empty: name a folder")
        fields = flatten(dataclasses.asdict(self))
        check_ranges(fields)
        check_effects(fields, flatten(defaults_of(type(self))))
        if self.schedule.decay is not None and self.schedule.decay > self.training.max_updates:
            raise UserError(
                f"schedule.decay is {self.schedule.decay}, more than training.max_updates, {self.training.max_updates}"
            )
