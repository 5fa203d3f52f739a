"""The trainer: updates, validation, checkpoints, and resuming after a stop. It knows no model family.

One update sums the loss over its tokens, in all micro-batches and on all processes, divides by their number, clips, and
steps. The division of tokens into micro-batches and processes makes no difference to it.
"""

import functools
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transformer_zoo.errors import UserError, first_line
from transformer_zoo.threads import adapt
from transformer_zoo.training import distributed
from transformer_zoo.training.captured import Captured, captured
from transformer_zoo.training.checkpoint import Checkpoints, Progress, check_texts
from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.device import choose_device, choose_precision, peak_flops, seed_all, tune_malloc, use_tf32
from transformer_zoo.training.logging import RunLog
from transformer_zoo.training.optimizer import make_optimizer
from transformer_zoo.training.parallel import arrange, prepare
from transformer_zoo.training.schedule import Rates, limit_reached, peak_rate
from transformer_zoo.training.signals import StopSignals
from transformer_zoo.training.task import Batch, Feed, Task, Update
from transformer_zoo.training.trackers import Number, open_trackers
from transformer_zoo.training.weights import MovingAverage, average_checkpoints, load_weights, save_weights
from transformer_zoo.training.window import Divergence, Window, all_finite

_FIRST_FIGURES = (1, 10)  # updates after which a line is printed before training.log_every is reached


class Trainer:
    """Trains `task` by the settings of `config` in the folder `config.run_dir`, from the state in that folder.

    Raises:
        UserError: a device does not exist, a checkpoint is damaged or does not fit, weights that it names are missing,
            or the data has changed since.
    """

    def __init__(self, task: Task, config: RunConfig, *, world: distributed.World | None = None) -> None:
        self.task, self.config, self.world = task, config, world or distributed.world()
        self.run_dir = Path(config.run_dir)
        self.device = choose_device(config.device, self.world.local_rank)
        self.dtype = choose_precision(config.precision, self.device)
        use_tf32(self.device)
        tune_malloc()
        distributed.start(self.world, self.device)
        self.peak_rate = peak_rate(
            config.optimizer, config.schedule, d_model=task.d_model, fine_tuning=task.fine_tuning
        )
        self.arrangement = arrange(config.parallel, self.world, sum(p.numel() for p in task.model.parameters()))
        self.readers = self.arrangement.readers(self.world)
        for stack in getattr(task.model, "stacks", ()):
            getattr(task.model, stack).recompute = config.training.recompute
        narrow = self.dtype == torch.bfloat16
        self.trained = prepare(task, self.arrangement, self.device, self.world, config.compile, narrow=narrow)
        self.objective, self.parameters, layout = self.trained.objective, self.trained.held, self.trained.layout
        self.optimizer = make_optimizer(
            self.trained.model, config.optimizer, lr=self.peak_rate, dtype=self.dtype, layout=layout
        )
        self.micro_batch = captured(self._micro_batch, config, task.model, self.device, processes=self.world.size)
        self.average = MovingAverage(self.parameters, config.training.ema_decay, layout)
        self.checkpoints = Checkpoints(self.run_dir)
        self.progress = Progress(data=task.data)
        self.accumulate = config.training.micro_batches(self.readers.size)
        self.peak_flops = peak_flops(self.device, self.dtype)
        self.divergence = Divergence(config, self.checkpoints.folder, peak=self.peak_rate)
        self._resume()

    @property
    def how(self) -> str:
        """What is trained, on which device and in which precision, for the first lines of a run."""
        words = [f"{sum(p.numel() for p in self.task.model.parameters()):,} parameters on {self.device}"]
        words.append("float32" if self.dtype == torch.float32 else "bfloat16 products of float32 weights")
        if self.device.type == "cuda":
            words.append("float32 products in TF32")
        if isinstance(self.micro_batch, Captured):
            words.append("CUDA graphs")
        shared = f", {self.arrangement}" if self.arrangement.parts > 1 else ""
        return ", ".join([*words, f"processes: {self.world.size}{shared}"])

    def _resume(self) -> None:
        final = functools.partial(self.checkpoints.final_paths, which=self.config.checkpoint.final_weights)
        if (found := self.checkpoints.load(final)) is None:
            return
        self.progress, state = found
        check_texts(self.progress.data, self.task.data, self.run_dir)
        self.progress.data, self.divergence.kept = self.task.data, self.progress.step
        try:
            self.trained.load(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.load(state["average"])
        except Exception as error:  # a stranger's file may hold anything
            raise UserError(
                f"{self.checkpoints.last} does not fit the model or the optimizer of this run "
                f"({first_line(error)}); give another run_dir, or remove the file to start again"
            ) from None

    def fit(self) -> str:
        """Train until a limit is reached, write model.safetensors and return the limit's name.

        The signals of `signals.STOP` end it earlier, with a checkpoint and the name "signal".

        Raises:
            UserError: the loss, the gradient or a weight is not finite. The last checkpoint stays.
        """
        done = self.progress
        self.rates = Rates(self.task.plan, self.config, self.readers, peak=self.peak_rate)
        self.log: RunLog | None = None
        if self.world.main:
            self.checkpoints.remove_unnamed()
            trackers, share = open_trackers(self.config, step=done.step), self.rates.nearest(done)[0]
            self.log = RunLog(self.run_dir, trackers, sizes=done.logs, share=share)
        self.window = Window(self.device, copies=self.arrangement.tensor)
        self.started = time.monotonic() - done.seconds
        feed = Feed(self.task.plan, self._load, self.accumulate, self.readers, self.device)
        try:
            if self.log is not None:
                self.log.say(self.rates.in_words(done))
            with StopSignals() as signals, closing(feed.updates(done.epoch, done.update)) as updates:
                reason = self._train(updates, signals)
            if reason != "signal" and self.world.main:
                weights = average_checkpoints(self.checkpoints.final_paths(done, self.config.checkpoint.final_weights))
                self.divergence.check(all_finite(list(weights.values())), "the weights the run would end with are")
                save_weights(self.run_dir / "model.safetensors", weights)
        finally:
            if self.log is not None:
                self.log.close()
        distributed.barrier()
        return reason

    def validate_final(self) -> dict[str, Number]:
        """Metrics of the weights that `fit` wrote; the model has them from here on."""
        self.task.model.load_state_dict(load_weights(self.run_dir / "model.safetensors"), assign=True)
        self.task.objective.to(self.device).eval()
        with torch.no_grad():
            return self.task.validate()

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
        self.progress.seconds = time.monotonic() - self.started
        return limit_reached(self.progress, self.config)

    def _load(self, entry: Any) -> Batch:
        batch = self.task.load(entry)
        return self.task.in_bucket(batch) if isinstance(self.micro_batch, Captured) else batch

    def _told_to_stop(self, signals: StopSignals) -> bool:
        # To ask the other processes means to wait for them, so it is done only now and then.
        if self.world.size > 1 and self.progress.step % 10:
            return False
        return distributed.any_of(signals.received)

    def _update(self, micro_batches: list[Batch]) -> None:
        done, config = self.progress, self.config
        done.step += 1
        n_tokens = sum(batch.n_tokens for batch in micro_batches)
        read = distributed.all_sum(torch.full((), float(n_tokens), device=self.device))
        tokens = (read / self.arrangement.tensor).clamp_min(1)
        for index, batch in enumerate(micro_batches):
            # The dropout of each micro-batch has a seed of its own, so there is no generator state to save.
            seed_all(config.seed, done.step, index * self.readers.size + self.readers.rank)
            adapt()
            with self.trained.sync(now=index == len(micro_batches) - 1):
                # Readers average their gradients; the average times their number is the sum.
                loss, nll = self.micro_batch(batch, self.readers.size / tokens)
            self.window.add_loss(loss, nll)
        self.trained.take_gradients()
        self.window.add_update(tokens, self._clip())
        if self.device.type == "cpu":  # on other devices looking makes the CPU wait, and is done before each save
            self._check_finite()
        self.learning_rate = self.rates.advance(done)
        self.optimizer.set_learning_rate(self.learning_rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=not isinstance(self.micro_batch, Captured))
        self.average.update()
        every = config.training.log_every
        if done.step % every == 0 or (done.step < every and done.step in _FIRST_FIGURES):
            self._log_training()
        if self.log is not None:
            self.log.moved(*self.rates.nearest(done))

    def _micro_batch(self, batch: Batch, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Forward and backward: loss and plain NLL, ()."""
        with self._autocast():
            loss, nll = self.objective(batch.to(self.device, non_blocking=True))
        (loss * scale).backward()
        return loss.detach(), nll.detach()

    def _clip(self) -> Tensor:
        """The gradient's norm, (), before it was clipped to `max_grad_norm`."""
        limit = self.config.training.max_grad_norm
        norm = self.trained.norm()
        # On a CPU it costs nothing to check first; on other devices the CPU would have to wait for the answer.
        if limit and (self.device.type != "cpu" or norm > limit):
            nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return norm

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _check_finite(self) -> None:
        self.divergence.check(self.window.finite(), f"update {self.progress.step}: loss or gradient is")

    def _log_training(self) -> None:
        """Log a line about the updates since the last one, if there are any."""
        if not self.window.updates:
            return
        self._check_finite()
        done, values = self.progress, self.window.close()
        done.tokens += int(values.pop("tokens"))
        warning = self.divergence.rising(values["loss"], done)
        if warning and self.log is not None:
            self.log.say(warning)
        if self.peak_flops and self.task.flops_per_token:
            used = values["tokens_per_second"] * self.task.flops_per_token
            values["mfu"] = used / (self.peak_flops * self.world.size)
        if self.log is not None:
            seconds = round(time.monotonic() - self.started, 1)
            place = {"epoch": done.epoch, "tokens": done.tokens, "seconds": seconds}
            self.log.metrics("train", done.step, {**values, "lr": self.learning_rate, **place})

    def _validate(self) -> None:
        """Metrics of the averaged weights if there are any; remembers the best."""
        self._log_training()
        done = self.progress
        by: str = self.config.validation.best_by
        metrics: dict[str, Number] = {}
        paused = time.monotonic()
        with self.average.swapped(), self.trained.lent():
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
            if done.validated(float(metrics[by]), higher=by == "bleu"):
                self._keep_weights(self.checkpoints.weights_path(done.step, best=True))
        self.window.pause(time.monotonic() - paused)

    def _save(self, *, snapshot: bool = False) -> None:
        """Write the state to resume from. A snapshot also keeps the weights for averaging."""
        self._log_training()
        done = self.progress
        # The last update may have spoiled the weights before any loss could show it.
        spoiled = distributed.any_of(not all_finite([*self.parameters, *self.average.average]))
        self.divergence.check(not spoiled, f"update {done.step}: weights are")
        paused = time.monotonic()
        done.seconds = time.monotonic() - self.started
        if snapshot:
            earlier = [step for step in done.snapshots if step != done.step]
            done.snapshots = [*earlier, done.step][-max(1, self.config.checkpoint.average_last) :]
            with self.average.swapped():
                self._keep_weights(self.checkpoints.weights_path(done.step))
        state = {"model": self.trained.state(), "optimizer": self.optimizer.state_dict()}
        state["average"] = self.average.state()
        if self.log is not None:
            done.logs = self.log.sizes()
            self.checkpoints.save(done, state)
        self.divergence.kept = done.step
        distributed.barrier()
        self.window.pause(time.monotonic() - paused)

    def _keep_weights(self, path: Path) -> None:
        weights = self.trained.weights()
        if self.world.main:
            save_weights(path, weights)
