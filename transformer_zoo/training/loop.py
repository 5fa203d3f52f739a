"""The trainer: updates, validation, checkpoints, and going on after a stop. It knows no model family.

One update sums the loss over its tokens, in all micro-batches and on all processes, divides by their number,
clips, and steps. How the tokens were cut into micro-batches and processes makes no difference to it.
"""

import copy
import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transformer_zoo.errors import UserError
from transformer_zoo.threads import adapt
from transformer_zoo.training import distributed
from transformer_zoo.training.averaging import MovingAverage
from transformer_zoo.training.checkpoint import (
    Checkpoints,
    Progress,
    average_checkpoints,
    copy_weights,
    load_weights,
    save_weights,
)
from transformer_zoo.training.compiling import use_compile
from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.device import (
    choose_device,
    choose_precision,
    peak_flops,
    seed_all,
    tune_malloc,
)
from transformer_zoo.training.feed import Batch, Feed, Update, cut
from transformer_zoo.training.folder import check_texts
from transformer_zoo.training.logging import Number, RunLog
from transformer_zoo.training.model_json import first_line
from transformer_zoo.training.optimizer import make_optimizer
from transformer_zoo.training.schedule import (
    describe_schedule,
    learning_rate,
    peak_rate,
    warmup_by_clock,
    warmup_of,
)
from transformer_zoo.training.signals import StopSignals
from transformer_zoo.training.window import Window, all_finite

SETTLED_RATE = 0.1 + 1e-9
"""A learning rate that has come down to this share of its peak leaves nothing for an average of weights to smooth."""


@dataclass(kw_only=True)
class Task:
    """What a model family gives the trainer.

    Args:
        model: What is trained and saved.
        objective: Module around `model`: `forward(batch)` gives (loss to minimise, plain NLL), both () and
            summed over tokens. `compile()` compiles what is worth it.
        plan: Epoch -> its micro-batches, in order, for all processes together, as what `load` understands.
            A pure function, so that a run can go on in the middle of an epoch.
        load: One entry of `plan` -> its `Batch` on the CPU.
        validate: Metrics of the model as it is: at least "loss", and "bleu" where the best is chosen by it.
        samples: Outputs to look at, taken after `validate`.
        data: Checksums of the texts, by the names of their fields: a run that goes on must go on with the same, but
            for those it is only tested on (`check_texts`).
        d_model: Width of the model, by which learning rates go.
        fine_tuning: Whether the model was trained before.
        flops_per_token: Floating-point operations that training takes for a token, where it is known.
    """

    model: nn.Module
    objective: nn.Module
    plan: Callable[[int], Sequence[Any]]
    load: Callable[[Any], Batch]
    validate: Callable[[], dict[str, Number]]
    samples: Callable[[], list[str]]
    data: dict[str, str]
    d_model: int
    fine_tuning: bool = False
    flops_per_token: float = 0.0


class Trainer:
    """Trains `task` as `config` says in the folder `config.run_dir`, from where the folder stands.

    Raises:
        UserError: a device that is not there, a checkpoint that is damaged or does not fit, weights it names that are
            gone, or other data than it was trained on.
    """

    def __init__(self, task: Task, config: RunConfig, *, world: distributed.World | None = None) -> None:
        self.task, self.config, self.world = task, config, world or distributed.world()
        self.run_dir = Path(config.run_dir)
        self.device = choose_device(config.device, self.world.local_rank)
        self.dtype = choose_precision(config.precision, self.device)
        tune_malloc()
        distributed.start(self.world, self.device)
        self.task.objective.to(self.device)
        self.peak_rate = peak_rate(
            config.optimizer, config.schedule, d_model=task.d_model, fine_tuning=task.fine_tuning
        )
        self.optimizer = make_optimizer(task.model, config.optimizer, lr=self.peak_rate, dtype=self.dtype)
        if use_compile(config.compile, self.device, say=self.world.main):
            task.objective.compile()
        self.objective = distributed.wrap(task.objective, self.device)
        self.parameters = list(task.model.parameters())
        self.average = MovingAverage(task.model, config.training.ema_decay)
        self.checkpoints = Checkpoints(self.run_dir)
        self.progress = Progress(data=task.data)
        self.accumulate = config.training.micro_batches(self.world.size)
        self.peak_flops = peak_flops(self.device, self.dtype)
        self.kept: int | None = None  # the update of the last checkpoint
        self.rising = False
        self._resume()

    def _resume(self) -> None:
        if (found := self.checkpoints.load(self._final_paths)) is None:
            return
        self.progress, state = found
        check_texts(self.progress.data, self.task.data, self.run_dir)
        self.progress.data, self.kept = self.task.data, self.progress.step
        try:
            self.task.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # out of the map of the file
            self.average.load(state["average"])
        except Exception as error:  # a stranger's file may hold anything
            raise UserError(
                f"{self.checkpoints.last} does not fit the model or the optimizer of this run "
                f"({first_line(error)}); give another run_dir, or remove the file to start again"
            ) from None

    def fit(self) -> str:
        """Trains until a limit is reached, writes model.safetensors and returns the limit's name.

        The signals of `signals.STOP` end it before, with a checkpoint and "signal".

        Raises:
            UserError: the loss, the gradient or a weight is not finite; the last checkpoint stays.
        """
        done = self.progress
        if self.world.main:
            self.checkpoints.remove_unnamed()
        self.log = self._open_log() if self.world.main else None
        self.window = Window(self.device)
        self.started = time.monotonic() - done.seconds
        self.planned_updates = self._planned_updates()
        feed = Feed(self.task.plan, self.task.load, self.accumulate, self.world, self.device)
        try:
            if self.log is not None:
                self.log.say(self._plan_in_words())
            with StopSignals() as signals, closing(feed.updates(done.epoch, done.update)) as updates:
                reason = self._train(updates, signals)
            if reason != "signal" and self.world.main:
                weights = average_checkpoints(self._final_paths(done))
                if not all_finite(list(weights.values())):
                    raise UserError(f"the weights the run would end with are not finite; {self._remedy()}")
                save_weights(self.run_dir / "model.safetensors", weights)
        finally:
            if self.log is not None:
                self.log.close()
        distributed.barrier()
        return reason

    def validate_final(self) -> dict[str, Number]:
        """Metrics of the weights that `fit` wrote, which the model has from here on."""
        self.task.model.load_state_dict(load_weights(self.run_dir / "model.safetensors"))
        self.task.objective.eval()
        with torch.no_grad():
            return self.task.validate()

    def _open_log(self) -> RunLog:
        done = self.progress
        return RunLog(self.run_dir, sizes=done.logs, step=done.step, total=self.config.training.max_updates)

    def _train(self, updates: Generator[Update, None, None], signals: StopSignals) -> str:
        done, config = self.progress, self.config
        self.objective.train()
        while True:
            reason = self._stop_reason()
            snapshot = done.step not in (0, *done.snapshots) and (reason or done.step % config.checkpoint.every == 0)
            validate = done.step != done.validated_step and (reason or done.step % config.validation.every == 0)
            if snapshot or validate:  # saved first: a validation may take long, or fail
                self._save(snapshot=bool(snapshot))
            if validate:
                self._validate()
                reason = reason or self._stop_reason()
                if reason:
                    self._save(snapshot=True)
            if reason:
                return reason
            if self._told_to_stop(signals):
                self._save()
                return "signal"
            (done.epoch, done.update), micro_batches = next(updates)
            self._update(micro_batches)

    def _stop_reason(self) -> str:
        """The limit that has been reached, or an empty string."""
        done, limits = self.progress, self.config.training
        patience = self.config.validation.patience
        done.seconds = time.monotonic() - self.started
        if done.step >= limits.max_updates:
            return "max_updates"
        if limits.max_epochs is not None and done.epoch >= limits.max_epochs:
            return "max_epochs"
        if patience and done.bad_validations >= patience:
            return "patience"
        late = limits.max_minutes is not None and done.seconds >= 60 * limits.max_minutes
        # Clocks differ between processes, which must all stop at the same update.
        if limits.max_minutes is not None and distributed.any_of(late, self.device):
            return "max_minutes"
        return ""

    def _told_to_stop(self, signals: StopSignals) -> bool:
        # Asking the others makes a GPU wait for its queue: only now and then where there are others.
        if self.world.size > 1 and self.progress.step % 10:
            return False
        return distributed.any_of(signals.received, self.device)

    def _update(self, micro_batches: list[Batch]) -> None:
        """Forward, backward, clip, step."""
        done, config = self.progress, self.config
        done.step += 1
        n_tokens = sum(batch.n_tokens for batch in micro_batches)
        tokens = distributed.all_sum(torch.full((), float(n_tokens), device=self.device))
        for index, batch in enumerate(micro_batches):
            # The dropout of each micro-batch has a seed of its own, so there is no generator state to save.
            seed_all(config.seed, done.step, index * self.world.size + self.world.rank)
            adapt()
            with distributed.sync(self.objective, now=index == len(micro_batches) - 1):
                with self._autocast():
                    loss, nll = self.objective(batch.to(self.device, non_blocking=True))
                # Between processes gradients are averaged: times their number, that is a sum.
                (loss * (self.world.size / tokens)).backward()
            self.window.add_loss(loss, nll)
        self.window.add_update(tokens, self._clip())
        if self.device.type == "cpu":  # elsewhere looking makes the CPU wait, and is done before each save
            self._check_finite()
        self.learning_rate = self._learning_rate()
        done.rate = self.learning_rate / self.peak_rate
        self.optimizer.set_learning_rate(self.learning_rate)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update()
        if done.step % config.training.log_every == 0:
            self._log_training()

    def _clip(self) -> Tensor:
        """The gradient's norm, (), as it was before it was cut to `max_grad_norm`."""
        limit = self.config.training.max_grad_norm
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        # On a CPU it costs nothing to ask first; elsewhere the answer would have to be waited for.
        if limit and (self.device.type != "cpu" or norm > limit):
            nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return norm

    def _learning_rate(self) -> float:
        """Of this update. All processes must ask together, and once: those that go by the clock agree here."""
        done, schedule, limits = self.progress, self.config.schedule, self.config.training
        last = float(self.planned_updates)
        if limits.max_minutes is not None:
            share = max(done.step / last, done.seconds / (60 * limits.max_minutes), 1e-9)
            share = distributed.broadcast(share)  # clocks differ between processes
            done.warmup = warmup_by_clock(done.step, before=done.warmup or 1.0, share=share)
            last = done.step / share
        elif not done.warmup:
            done.warmup = warmup_of(last)
        warmup = done.warmup if schedule.warmup is None else schedule.warmup
        return learning_rate(done.step, schedule, peak=self.peak_rate, warmup=warmup, last=last)

    def _plan_in_words(self) -> str:
        """What the learning rate will do, and which weights the run will end with."""
        schedule, minutes = self.config.schedule, self.config.training.max_minutes
        warmup = schedule.warmup if schedule.warmup is not None else self.progress.warmup or None
        words = describe_schedule(
            schedule, peak=self.peak_rate, warmup=warmup, last=self.planned_updates, minutes=minutes
        )
        ratio = self.config.optimizer.adam_lr
        return words if ratio is None else f"{words}; what Adam updates goes up to {ratio:.3g}"

    def _planned_updates(self) -> int:
        """max_updates, or those of max_epochs where they are fewer."""
        limits = self.config.training
        if limits.max_epochs is None:
            return limits.max_updates
        an_epoch = len(cut(self.task.plan(0), self.accumulate, self.world))
        return min(limits.max_updates, limits.max_epochs * an_epoch)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _check_finite(self) -> None:
        """What came in since the last line, and what came of it: the weights, where they are about to be written."""
        if not self.window.finite():
            raise UserError(f"update {self.progress.step}: loss or gradient is not finite; {self._remedy()}")

    def _check_weights(self) -> None:
        """The last update may have spoiled them, and no loss has seen that yet."""
        if not all_finite([*self.parameters, *self.average.average]):
            raise UserError(f"update {self.progress.step}: weights are not finite; {self._remedy()}")

    def _remedy(self) -> str:
        """What to do about a run that has diverged."""
        lower = f"--optimizer.lr {self.peak_rate / 3:.2g}"
        if self.config.schedule.name == "noam":
            lower = f"--schedule.factor {(self.config.schedule.factor or 1.0) / 3:.2g}"
        if self.config.optimizer.adam_lr is not None:
            lower += f" --optimizer.adam_lr {self.config.optimizer.adam_lr / 3:.2g}"
        if self.kept is None:
            first = self.config.checkpoint.every
            return f"nothing is kept, the first checkpoint comes after update {first}. Start again with {lower}"
        return (
            f"update {self.kept} is kept in {self.checkpoints.folder}. The same command goes on from there with "
            f"{lower} --allow_change true"
        )

    def _warn_of_rising(self, loss: float) -> None:
        """A loss that explodes without being infinite: said once, until it has come down again."""
        done = self.progress
        rises = loss > done.lowest + max(1.0, done.lowest / 2)
        if rises and not self.rising and self.log is not None:
            self.log.say(
                f"warning: update {done.step}: the loss has risen from {done.lowest:.3g} to {loss:.3g}; if it stays "
                "so, the run has diverged: give a lower optimizer.lr and another run_dir"
            )
        self.rising, done.lowest = rises, min(done.lowest, loss)

    def _log_training(self) -> None:
        """A line on the updates since the last one, where there are any."""
        if not self.window.updates:
            return
        self._check_finite()
        done, values = self.progress, self.window.close()
        done.tokens += int(values.pop("tokens"))
        self._warn_of_rising(values["loss"])
        if self.peak_flops and self.task.flops_per_token:
            used = values["tokens_per_second"] * self.task.flops_per_token
            values["mfu"] = used / (self.peak_flops * self.world.size)
        if self.log is not None:
            place = {
                "epoch": done.epoch,
                "tokens": done.tokens,
                "seconds": round(time.monotonic() - self.started, 1),
            }
            self.log.metrics("train", done.step, {**values, "lr": self.learning_rate, **place})

    def _validate(self) -> None:
        """Metrics of the averaged weights where there are any; remembers the best."""
        self._log_training()
        done = self.progress
        by: str = self.config.validation.best_by
        metrics: dict[str, Number] = {}
        paused = time.monotonic()
        with self.average.swapped():
            self.task.objective.eval()
            if self.log is not None:
                with torch.no_grad(), self._autocast():
                    metrics = self.task.validate()
                    self.log.metrics("valid", done.step, metrics)
                    self.log.samples(done.step, self.task.samples())
            self.objective.train()
            metrics = distributed.broadcast(metrics)
            if by not in metrics:
                raise UserError(f"validation.best_by: {by} was not measured; the validation gives {', '.join(metrics)}")
            value = float(metrics[by])
            better = done.best is None or (value > done.best if by == "bleu" else value < done.best)
            better = better and math.isfinite(value)
            done.bad_validations = 0 if better else done.bad_validations + 1
            done.validated_step = done.step
            if better:
                done.best, done.best_step = value, done.step
                if self.world.main:
                    save_weights(self.checkpoints.weights_path(done.step, best=True), copy_weights(self.task.model))
        self.window.pause(time.monotonic() - paused)

    def _save(self, *, snapshot: bool = False) -> None:
        """Writes the state to go on from; a snapshot also keeps the weights for averaging."""
        self._log_training()
        self._check_weights()
        done, paused = self.progress, time.monotonic()
        done.seconds = time.monotonic() - self.started
        if snapshot:
            earlier = [step for step in done.snapshots if step != done.step]
            done.snapshots = [*earlier, done.step][-max(1, self.config.checkpoint.average_last) :]
        if self.log is not None:
            if snapshot:
                with self.average.swapped():
                    save_weights(self.checkpoints.weights_path(done.step), copy_weights(self.task.model))
            done.logs = self.log.sizes()
            state = {"model": self.task.model.state_dict(), "optimizer": self.optimizer.state_dict()}
            self.checkpoints.save(done, {**state, "average": self.average.state()})
        self.kept = done.step
        distributed.barrier()
        self.window.pause(time.monotonic() - paused)

    def _final_paths(self, done: Progress) -> list[Path]:
        """The weights whose mean training would end with there."""
        which = self.config.checkpoint.final_weights or ("last" if done.rate <= SETTLED_RATE else "average")
        if which == "best" and done.best_step is not None:
            return [self.checkpoints.weights_path(done.best_step, best=True)]
        return [self.checkpoints.weights_path(step) for step in done.snapshots[0 if which == "average" else -1 :]]
