"""The learning rate of a run: `schedule` applied to what the run has come to, and told in words."""

from collections.abc import Callable, Sequence
from typing import Any

from transformer_zoo.training import distributed
from transformer_zoo.training.checkpoint import Progress
from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.feed import cut
from transformer_zoo.training.schedule import describe_schedule, learning_rate, warmup_by_clock, warmup_of


class Rates:
    """The learning rates of a run's updates.

    Args:
        plan: Epoch -> its micro-batches, as in `Task`.
        config: Its settings.
        world: The processes that share its micro-batches.
        peak: The highest rate.
    """

    def __init__(
        self, plan: Callable[[int], Sequence[Any]], config: RunConfig, world: distributed.World, *, peak: float
    ) -> None:
        self.config, self.peak = config, peak
        limits = config.training
        self.last = limits.max_updates  # the last update that is planned
        if limits.max_epochs is not None:
            an_epoch = len(cut(plan(0), limits.micro_batches(world.size), world))
            self.last = min(self.last, limits.max_epochs * an_epoch)

    def advance(self, done: Progress) -> float:
        """The rate of update `done.step`; `done` remembers its `warmup` and its share of the peak.

        All processes must ask together, and once: those that go by the clock agree here.
        """
        schedule, minutes = self.config.schedule, self.config.training.max_minutes
        last = float(self.last)
        if minutes is not None:
            share = max(done.step / last, done.seconds / (60 * minutes), 1e-9)
            share = distributed.broadcast(share)  # clocks differ between processes
            done.warmup = warmup_by_clock(done.step, before=done.warmup or 1.0, share=share)
            last = done.step / share
        elif not done.warmup:
            done.warmup = warmup_of(last)
        warmup = done.warmup if schedule.warmup is None else schedule.warmup
        rate = learning_rate(done.step, schedule, peak=self.peak, warmup=warmup, last=last)
        done.rate = rate / self.peak
        return rate

    def in_words(self, done: Progress) -> str:
        """One line on what the rate will do in a run that has come to `done`."""
        schedule, minutes = self.config.schedule, self.config.training.max_minutes
        warmup = schedule.warmup if schedule.warmup is not None else done.warmup or None
        words = describe_schedule(schedule, peak=self.peak, warmup=warmup, last=self.last, minutes=minutes)
        ratio = self.config.optimizer.adam_lr
        return words if ratio is None else f"{words}; what Adam updates goes up to {ratio:.3g}"
