"""Learning rate as a pure function of the update number.

`step` counts optimizer updates from 1, so that no update is made at learning rate 0. Nothing is remembered
between calls: a resumed run needs the number of its next update and no more.
"""

import math

from transformer_zoo.errors import UserError
from transformer_zoo.training.config import ScheduleConfig


def noam(step: int, *, d_model: int, warmup: int, factor: float = 1.0) -> float:
    """factor * d_model^-0.5 * min(step^-0.5, step * warmup^-1.5); Vaswani et al. 2017, equation 3."""
    rise: float = step * max(warmup, 1) ** -1.5
    return factor / math.sqrt(d_model) * min(1 / math.sqrt(step), rise)


def inverse_sqrt(step: int, *, peak: float, warmup: int) -> float:
    """The curve of `noam`, named by its peak, which it reaches at step `warmup`."""
    warmup = max(warmup, 1)
    return peak * min(step / warmup, math.sqrt(warmup / step))


def constant(step: int, *, peak: float, warmup: int) -> float:
    """Linear warmup over `warmup` updates, then the peak."""
    return peak * min(1.0, step / max(warmup, 1))


def decay_to(step: int, *, start: int, end: int, final_ratio: float, shape: str) -> float:
    """Factor that falls from 1 at `start` to `final_ratio` at `end`; `shape` is linear or cosine."""
    progress = min(1.0, max(0.0, (step - start) / max(1, end - start)))
    left = 1.0 - progress if shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return final_ratio + (1.0 - final_ratio) * left


def learning_rate(step: int, config: ScheduleConfig, *, peak: float, d_model: int, max_updates: int) -> float:
    """Learning rate of update `step` (1, 2, ...), `max_updates` being the last.

    Raises:
        UserError: `step` is below 1.
    """
    if step < 1:
        raise UserError(f"the schedule counts updates from 1, not {step}")
    if config.name == "noam":
        return noam(step, d_model=d_model, warmup=config.warmup, factor=config.factor)
    if config.name == "inverse_sqrt":
        return inverse_sqrt(step, peak=peak, warmup=config.warmup)
    warm = constant(step, peak=peak, warmup=config.warmup)
    if config.name == "constant":
        return warm
    start = max_updates - config.decay if config.name == "wsd" else config.warmup
    shape = "cosine" if config.name == "cosine" else "linear"
    return warm * decay_to(step, start=start, end=max_updates, final_ratio=config.final_ratio, shape=shape)
