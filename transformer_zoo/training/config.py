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
        name: `adam` as in the paper; `adamw`, whose decoupled weight decay applies to matrices only; or `muon` for the
            matrices of the layers with AdamW for everything else.
        lr: Peak learning rate. It cannot be given with the `noam` schedule, where d_model and `schedule.factor` set it.
            The default is d_model^-0.5 * 4000^-0.5 as in the paper, six times that with `muon`, and a tenth of it if
            training starts from model.init_from.
        adam_lr: For `muon`: peak learning rate of what Adam updates, which is embeddings, the output projection, norms
            and biases. The default is `lr`.
        betas: Decay rates of the first and the second moment.
        eps: Added to the denominator.
        momentum: For `muon`: decay of its momentum.
        ns_steps: For `muon`: number of Newton-Schulz steps that make an update orthogonal; fewer are faster but
            rougher.
        weight_decay: Decoupled weight decay of matrices, never of norms and biases. It needs `adamw` or `muon`.
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
        name: `noam` (the paper's), `inverse_sqrt` (the same curve, given by its peak `optimizer.lr`), `constant`,
            `linear` and `cosine` (both reach their end when the limits end training), or `wsd` (warm-up, stable, then
            linear decay).
        warmup: Number of updates of linear warm-up. The default is a twentieth of the planned updates, from 10 to
            4,000. Under `training.max_minutes` it is that share of the time. With `noam` a given warm-up also sets the
            peak: the paper's curve has it at (d_model * warmup)^-0.5.
        factor: For `noam`: factor of its curve.
        decay: For `wsd`: number of updates at the end in which the rate decays. The default is a fifth of all.
        final_ratio: For `linear`, `cosine`, `wsd`: learning rate at the end as a fraction of the peak.
    """

    name: Literal["noam", "inverse_sqrt", "constant", "linear", "cosine", "wsd"] = "linear"
    warmup: int | None = None
    factor: float = 1.0
    decay: int | None = None
    final_ratio: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The parts of one update, and the limits of training. The first limit that is reached stops it.

    Args:
        batch_tokens: Number of tokens of a micro-batch on either side, at most, padding included.
        accumulate: Micro-batches per update on each process; their gradients are summed before the step.
        update_tokens: Number of tokens of an update, all processes together; it replaces `accumulate` by the number of
            micro-batches that comes nearest. 0: `accumulate` counts.
        max_updates: Stop after this many updates.
        max_epochs: Stop after this many passes over the training text.
        max_minutes: Stop after this wall-clock time, with validation included and restarts summed. A schedule that
            decays is stretched to end then. A run that depends on the clock cannot be repeated bit for bit.
        max_grad_norm: Clip the norm of the whole gradient to this; 0 turns it off.
        ema_decay: Decay of an exponential moving average of the weights. The average is validated and saved instead of
            the weights themselves; 0 turns it off.
        recompute: 1 keeps only the input of each layer and computes the rest again in the backward pass (gradient
            checkpointing): much less memory, and a third more time. n does so in every n-th layer; 0 turns it off.
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
    recompute: int = 0
    log_every: int = 50

    def micro_batches(self, world_size: int) -> int:
        """Number of micro-batches of an update on each of `world_size` processes."""
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
        samples: Number of sample outputs that are shown and kept in samples.txt.
    """

    every: int = 1000
    best_by: Literal["loss"] = "loss"
    patience: int = 0
    samples: int = 3


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What is written during training, and which weights the run ends with.

    Args:
        every: Updates between two checkpoints. A run that was killed resumes from the last one.
        average_last: Number of the last checkpoints that are kept, and averaged at the end.
        final_weights: Weights of the finished run: the `average` of the last checkpoints, the `best` validated, or the
            `last`. The default is the last if the learning rate has fallen to a tenth of its peak or less, otherwise
            the average.
    """

    every: int = 1000
    average_last: int = 5
    final_weights: Literal["average", "best", "last"] | None = None


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """How the processes that torchrun starts share the work: replicate * shard * tensor is their number.

    Args:
        replicate: Groups of processes that have the whole model each and read text of their own; `auto`: as many as
            shard and tensor leave.
        shard: Processes of a group that read text of their own, and keep a part each of weights, gradients and what the
            optimizer keeps. `auto`: those that replicate and tensor leave, where replicate is given; else all of a
            machine for a model of more than a billion parameters, and 1 for a smaller one.
        tensor: Processes that read the same text and compute a part each of every layer: some of the heads, of the
            inner width of the feed-forwards, and of the vocabulary.
    """

    replicate: int | Literal["auto"] = "auto"
    shard: int | Literal["auto"] = "auto"
    tensor: int = 1


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """Where a run can be followed, in addition to its own folder, which has metrics.jsonl and TensorBoard's files.

    Args:
        wandb: Project of Weights & Biases, to which metrics, samples and the recipe are sent. It needs `pip install
            'transformer-zoo[wandb]'`, and a login or WANDB_MODE=offline.
        trackio: Project of trackio, whose dashboard is on this machine. It needs `pip install
            'transformer-zoo[trackio]'`.
    """

    wandb: str | None = None
    trackio: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The fields that every recipe has.

    Args:
        run_dir: Folder of the run. If it holds a run, that run is resumed.
        seed: Seed of initialisation, dropout and the order of batches.
        device: `auto` takes CUDA, else an Apple GPU, else the CPU; or `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: Type of matrix products and of what is kept for the backward pass. `auto` takes bfloat16 if the
            hardware multiplies it fast, otherwise float32. Weights, gradients and the optimizer's state are always
            float32. A GPU computes products that remain float32 in TF32.
        compile: Whether torch.compile is used; `auto` uses it on CUDA only. (on and off are true and false in YAML.)
        cuda_graphs: With `auto`, micro-batches so small that one GPU would wait for Python are recorded, and all their
            kernels start at once. docs/gpu_work.md says which ones.
        allow_change: Resume the run in the folder although `optimizer` (except its name), `schedule`, `training`,
            `validation`, `checkpoint` or `precision` have changed, for example after a loss that was not finite. This
            field is not stored in the run.
        export: Another program that the finished run is written for too, to `export` in its folder. A model or a
            tokenizer that this program cannot represent is refused before training.
        optimizer: Optimizer.
        schedule: Learning rate.
        training: Updates and limits of training.
        validation: Validation.
        checkpoint: Checkpoints and final weights.
        logging: Where else the run can be followed.
        parallel: How several processes share the work; docs/scaling.md says which arrangement is for what.
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
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    model: Any = None

    def __post_init__(self) -> None:
        if self.run_dir.startswith("~"):
            object.__setattr__(self, "run_dir", str(Path(self.run_dir).expanduser()))

    def validate(self) -> None:
        """Check the ranges of all fields and how they fit together.

        Raises:
            UserError: the message names the field.
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
