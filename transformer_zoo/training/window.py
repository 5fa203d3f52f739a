"""Figures about a run since the last line of metrics, summed on the device, and whether the run diverges."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.kernels.cpu import with_float64
from transformer_zoo.training import distributed
from transformer_zoo.training.checkpoint import Progress
from transformer_zoo.training.config import RunConfig


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether none of the numbers is infinite or NaN. For tensors on a GPU the CPU waits once."""
    finite = [tensor.detach().isfinite().all() for tensor in tensors]
    return not finite or bool(torch.stack(finite).all())


class Window:
    """Loss, tokens, gradient norms and time of some updates: sums on the device, if it has float64.

    copies: how many processes read the same text.
    """

    def __init__(self, device: torch.device, *, copies: int = 1) -> None:
        self.device, self.copies = with_float64(device), copies
        self.reset()

    def reset(self) -> None:
        # Loss and plain NLL of this process; number of tokens and gradient norms of all processes.
        self.sums = torch.zeros(4, dtype=torch.float64, device=self.device)
        self.updates = 0
        self.started = time.monotonic()

    def add_loss(self, loss: Tensor, nll: Tensor) -> None:
        self.sums[:2] += torch.stack([loss, nll]).to(self.device)

    def add_update(self, tokens: Tensor, norm: Tensor) -> None:
        """Add an update: its global token count and the norm of its gradient."""
        self.sums[2:] += torch.stack([tokens, norm.detach()]).to(self.device)
        self.updates += 1

    def pause(self, seconds: float) -> None:
        """Leave `seconds` out of the speed."""
        self.started += seconds

    def finite(self) -> bool:
        """Whether every loss and every gradient since the last `reset` was finite."""
        return math.isfinite(float(self.sums.sum()))

    def close(self) -> dict[str, float]:
        """Means per token and per update, tokens, and tokens per second; the sums then start again."""
        loss, nll = distributed.all_sum(self.sums[:2]).tolist()
        tokens, norms = self.sums[2:].tolist()
        counted = tokens * self.copies
        means = {"loss": loss / counted, "nll": nll / counted, "grad_norm": norms / self.updates}
        speed = tokens / max(time.monotonic() - self.started, 1e-9)
        self.reset()
        return {**means, "tokens": tokens, "tokens_per_second": speed}


class Divergence:
    """Tells the user what to do about a run that diverges, from the peak learning rate and the folder of
    checkpoints."""

    def __init__(self, config: RunConfig, folder: Path, *, peak: float) -> None:
        self.config, self.folder, self.peak = config, folder, peak
        self.kept: int | None = None  # the update of the last checkpoint
        self.warned = False

    def check(self, finite: bool, what: str) -> None:
        """Raise a UserError that says what to do, unless `what` ("the weights are") is finite."""
        if not finite:
            raise UserError(f"{what} not finite; {self._remedy()}")

    def rising(self, loss: float, done: Progress) -> str:
        """A warning if `loss` explodes without being infinite, once until it has come down again; or nothing.

        `done` remembers the lowest.
        """
        lowest, warned = done.lowest, self.warned
        self.warned, done.lowest = loss > lowest + max(1.0, lowest / 2), min(lowest, loss)
        if warned or not self.warned:
            return ""
        return (
            f"warning: update {done.step}: the loss has risen from {lowest:.3g} to {loss:.3g}; if it stays "
            "so, the run has diverged: give a lower optimizer.lr and another run_dir"
        )

    def _remedy(self) -> str:
        lower = f"--optimizer.lr {self.peak / 3:.2g}"
        if self.config.schedule.name == "noam":
            lower = f"--schedule.factor {self.config.schedule.factor / 3:.2g}"
        if self.config.optimizer.adam_lr is not None:
            lower += f" --optimizer.adam_lr {self.config.optimizer.adam_lr / 3:.2g}"
        if self.kept is None:
            first = self.config.checkpoint.every
            return f"nothing is kept, the first checkpoint comes after update {first}. Start again with {lower}"
        return (
            f"update {self.kept} is kept in {self.folder}. The same command resumes from there with "
            f"{lower} --allow_change true"
        )
