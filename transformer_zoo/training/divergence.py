"""A run that diverges: numbers that are not finite end it, a loss that explodes without that is warned of."""

from pathlib import Path

from transformer_zoo.errors import UserError
from transformer_zoo.training.checkpoint import Progress
from transformer_zoo.training.config import RunConfig


class Divergence:
    """Knows what to do about a run that diverges.

    Args:
        config: Its settings.
        folder: That of its checkpoints.
        peak: Its highest learning rate.
    """

    def __init__(self, config: RunConfig, folder: Path, *, peak: float) -> None:
        self.config, self.folder, self.peak = config, folder, peak
        self.kept: int | None = None  # the update of the last checkpoint
        self.warned = False

    def check(self, finite: bool, what: str) -> None:
        """UserError, which says what to do, unless `what` ("the weights are") is finite."""
        if not finite:
            raise UserError(f"{what} not finite; {self._remedy()}")

    def rising(self, loss: float, done: Progress) -> str:
        """A warning where `loss` explodes without being infinite: once, until it has come down again; or nothing.

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
            lower = f"--schedule.factor {(self.config.schedule.factor or 1.0) / 3:.2g}"
        if self.config.optimizer.adam_lr is not None:
            lower += f" --optimizer.adam_lr {self.config.optimizer.adam_lr / 3:.2g}"
        if self.kept is None:
            first = self.config.checkpoint.every
            return f"nothing is kept, the first checkpoint comes after update {first}. Start again with {lower}"
        return (
            f"update {self.kept} is kept in {self.folder}. The same command goes on from there with "
            f"{lower} --allow_change true"
        )
