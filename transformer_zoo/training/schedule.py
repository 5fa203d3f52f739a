"""Learning rate as a pure function of the update number and of the expected end of the run; and the end of a run.

`step` counts optimizer updates from 1, so that no update has learning rate 0. Nothing is remembered between calls: a
resumed run needs only the number of its next update and the length of its warm-up.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from transformer_zoo.errors import UserError
from transformer_zoo.training import distributed
from transformer_zoo.training.checkpoint import Progress
from transformer_zoo.training.config import OptimizerConfig, RunConfig, ScheduleConfig
from transformer_zoo.training.task import cut

PAPERS_WARMUP, LEAST_WARMUP = 4000, 10
WARMUP_SHARE, DECAY_SHARE = 1 / 20, 1 / 5
MUON_RATIO, FINE_TUNING_RATIO = 6.0, 0.1


def peak_rate(
    optimizer: OptimizerConfig, schedule: ScheduleConfig, *, d_model: int, fine_tuning: bool = False
) -> float:
    """The highest learning rate: `optimizer.lr`, or by default the paper's for this width.

    The paper's is d_model^-0.5 * 4000^-0.5, the peak of equation 3 with the paper's warm-up. Muon takes six times as
    much. A model that was trained before takes a tenth. `noam` takes it times `factor`, or equation 3's peak for a
    given warm-up.
    """
    if schedule.name == "noam":
        warmup = PAPERS_WARMUP if schedule.warmup is None else max(schedule.warmup, 1)
        return schedule.factor / math.sqrt(d_model * warmup)
    if optimizer.lr is not None:
        return optimizer.lr
    ratio = (MUON_RATIO if optimizer.name == "muon" else 1.0) * (FINE_TUNING_RATIO if fine_tuning else 1.0)
    return ratio / math.sqrt(d_model * PAPERS_WARMUP)


def warmup_of(updates: float) -> float:
    """Default number of updates of warm-up: a twentieth of the planned updates, from 10 to 4,000."""
    return min(PAPERS_WARMUP, max(LEAST_WARMUP, updates * WARMUP_SHARE))


def warmup_by_clock(step: int, *, before: float, share: float) -> float:
    """The same for a run that ends when its time is up: the length of warm-up, as it is expected at update `step`.

    Once the warm-up is over its length does not change. Until then the rate rises by the share of time that has passed.
    An update raises it by at least 1/4,000 of the peak and by at most a tenth, so it never jumps.

    Args:
        step: The update that is to be made.
        before: The result of this function for the update before; for the first update any number above 0.
        share: The share of the run's time that has passed.
    """
    risen = (step - 1) / before
    if risen >= 1:
        return before
    return step / min(1.0, risen + 1 / LEAST_WARMUP, max(share / WARMUP_SHARE, risen + 1 / PAPERS_WARMUP))


def inverse_sqrt(step: int, *, peak: float, warmup: float) -> float:
    """peak * min(step / warmup, (warmup / step)^0.5): equation 3 of Vaswani et al. 2017, given by its peak."""
    return peak * min(step / warmup, math.sqrt(warmup / step))


def decay_to(step: int, *, start: float, end: float, final_ratio: float, shape: str) -> float:
    """Factor that falls from 1 at `start` to `final_ratio` at `end`; `shape` is linear or cosine."""
    progress = min(1.0, max(0.0, (step - start) / max(end - start, 1e-9)))
    left = 1.0 - progress if shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return final_ratio + (1.0 - final_ratio) * left


def learning_rate(step: int, config: ScheduleConfig, *, peak: float, warmup: float, last: float) -> float:
    """Learning rate of update `step` (1, 2, ...), which rises in a straight line to its `peak` at update `warmup`.

    Schedules that decay end at update `last`.

    Raises:
        UserError: `step` is below 1.
    """
    if step < 1:
        raise UserError(f"the schedule counts updates from 1, not {step}")
    warmup = max(warmup, 1.0)
    warm = peak * min(1.0, step / warmup)
    if config.name in ("noam", "inverse_sqrt"):
        return inverse_sqrt(step, peak=peak, warmup=warmup)
    if config.name == "constant":
        return warm
    decay = last * DECAY_SHARE if config.decay is None else config.decay
    start = last - decay if config.name == "wsd" else warmup
    shape = "cosine" if config.name == "cosine" else "linear"
    return warm * decay_to(step, start=start, end=last, final_ratio=config.final_ratio, shape=shape)


def describe_schedule(
    config: ScheduleConfig, *, peak: float, warmup: float | None, last: int, minutes: float | None
) -> str:
    """One line for people: where the rate has its peak, and where it ends: at update `last`, or after `minutes`."""
    start = warmup_of(last) if warmup is None else warmup
    highest, end = (
        learning_rate(step, config, peak=peak, warmup=start, last=last)
        for step in (min(max(round(start), 1), last), last)
    )
    words = f"learning rate ({config.name}): up to {highest:.3g} at update {min(start, last):,.0f}, then"
    if minutes is None:
        return f"{words} {end:.3g} at update {last:,}"
    clock = f"{minutes:g} minutes"
    if warmup is None:
        words = f"learning rate ({config.name}): up to {peak:.3g} after a twentieth of {clock}, then"
    if config.name in ("noam", "inverse_sqrt"):
        return f"{words} lower as step^-0.5 until the end of {clock}"
    return f"{words} {end:.3g} at the end of {clock}, or at update {last:,}"


class Rates:
    """The learning rates of a run's updates, up to `peak`; `plan` is that of its `Task`."""

    def __init__(
        self, plan: Callable[[int], Sequence[Any]], config: RunConfig, world: distributed.World, *, peak: float
    ) -> None:
        self.config, self.peak = config, peak
        limits = config.training
        self.last = limits.max_updates  # the last planned update
        if limits.max_epochs is not None:
            an_epoch = len(cut(plan(0), limits.micro_batches(world.size), world))
            self.last = min(self.last, limits.max_epochs * an_epoch)

    def advance(self, done: Progress) -> float:
        """The rate of update `done.step`. `done` remembers its `warmup` and its share of the peak.

        All processes must call it together, and once: processes that use the clock agree here.
        """
        schedule, minutes = self.config.schedule, self.config.training.max_minutes
        last = float(self.last)
        if minutes is not None:
            share = distributed.broadcast(max(self.nearest(done)[0], 1e-9))  # clocks differ between processes
            done.warmup = warmup_by_clock(done.step, before=done.warmup or 1.0, share=share)
            last = done.step / share
        elif not done.warmup:
            done.warmup = warmup_of(last)
        warmup = done.warmup if schedule.warmup is None else schedule.warmup
        rate = learning_rate(done.step, schedule, peak=self.peak, warmup=warmup, last=last)
        done.rate = rate / self.peak
        return rate

    def nearest(self, done: Progress) -> tuple[float, str]:
        """The share of the run that is done by the nearest limit, and the same in words."""
        limits, minutes = self.config.training, done.seconds / 60
        found = [(done.step / self.last, f"update {done.step:,} of {self.last:,}")]
        if limits.max_epochs is not None and self.last < limits.max_updates:
            found = [(done.step / self.last, f"epoch {done.epoch + 1} of {limits.max_epochs}, update {done.step:,}")]
        if limits.max_minutes is not None:
            found.append((minutes / limits.max_minutes, f"minute {minutes:.1f} of {limits.max_minutes:g}"))
        return max(found)

    def in_words(self, done: Progress) -> str:
        """One line about the rate in the rest of a run that has reached `done`."""
        schedule, minutes = self.config.schedule, self.config.training.max_minutes
        warmup = schedule.warmup if schedule.warmup is not None else done.warmup or None
        words = describe_schedule(schedule, peak=self.peak, warmup=warmup, last=self.last, minutes=minutes)
        ratio = self.config.optimizer.adam_lr
        return words if ratio is None else f"{words}; what Adam updates goes up to {ratio:.3g}"


def limit_reached(done: Progress, config: RunConfig) -> str:
    """The name of the limit that a run has reached, or an empty string. All processes must call it together."""
    limits, patience = config.training, config.validation.patience
    if done.step >= limits.max_updates:
        return "max_updates"
    if limits.max_epochs is not None and done.epoch >= limits.max_epochs:
        return "max_epochs"
    if patience and done.bad_validations >= patience:
        return "patience"
    # Clocks differ between processes, which must all stop at the same update.
    if limits.max_minutes is not None and distributed.any_of(done.seconds >= 60 * limits.max_minutes):
        return "max_minutes"
    return ""
