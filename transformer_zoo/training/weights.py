"""Weights in files: safetensors with a checksum, written completely or not at all; and averages of weights."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from transformer_zoo.checksums import MARK, verify, write_sealed
from transformer_zoo.errors import UserError, first_line
from transformer_zoo.files import make_folder
from transformer_zoo.kernels import lists
from transformer_zoo.training.layout import Layout

Weights = dict[str, Tensor]


def copy_weights(model: nn.Module) -> Weights:
    """The model's state on the CPU, each tensor in memory of its own."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}


def save_weights(path: Path, weights: Weights) -> None:
    """Write safetensors with their checksum, atomically. UserError: the folder is a symbolic link."""
    make_folder(path.parent.parent, path.parent.name)
    write_sealed(path, lambda part: save_file(weights, part, metadata={"checksum": MARK}))


def load_weights(path: Path) -> Weights:
    """Tensors of a safetensors file, on the CPU.

    Raises:
        UserError: the file does not exist, is damaged, or is not safetensors.
    """
    verify(path)
    try:
        return load_file(path)
    except Exception as error:  # safetensors and torch have no common base either
        raise UserError(f"{path}: no weights can be read ({first_line(error)})") from None


def average_checkpoints(paths: Sequence[Path]) -> Weights:
    """The mean of the weights in `paths`, accumulated in float32 (or float64 for float64), returned in their own type.

    Raises:
        UserError: there is no path, a file cannot be read, or files belong to different models.
    """
    if not paths:
        raise UserError("there is no checkpoint to average")
    first = load_weights(paths[0])
    total = {name: wide(value) for name, value in first.items()}
    for path in paths[1:]:
        weights = load_weights(path)
        if {n: v.shape for n, v in weights.items()} != {n: v.shape for n, v in first.items()}:
            raise UserError(f"{path} and {paths[0]} hold weights of different models")
        for name, value in weights.items():
            total[name] += wide(value)
    return {name: (value / len(paths)).to(first[name].dtype) for name, value in total.items()}


def wide(value: Tensor) -> Tensor:
    """A copy that is precise enough to sum in."""
    return value.to(torch.float64 if value.dtype == torch.float64 else torch.float32, copy=True)


def snapshot_paths(run_dir: Path) -> list[Path]:
    """The weights kept for averaging, oldest first. UserError: the name of one does not say after which update it was
    made."""
    files = list((run_dir / "checkpoints").glob("step_*.safetensors"))
    for path in files:
        if not re.fullmatch(r"step_[0-9]+", path.stem):
            raise UserError(f"{path}: its name is not step_NUMBER.safetensors; move it elsewhere")
    return sorted(files, key=lambda path: int(path.stem.removeprefix("step_")))


class MovingAverage:
    """An exponential moving average, for runs too short to average checkpoints.

    After update n = 1, 2, ..: average = d * average + (1 - d) * weights; d = min(decay, (n + 1)/(n + 10)).

    With decay 0 nothing is kept, and `swapped` leaves the weights as they are.
    """

    def __init__(self, weights: Sequence[Tensor], decay: float, layout: Layout | None = None) -> None:
        self.decay, self.updates, self.layout = decay, 0, layout or Layout()
        self.weights = list(weights)
        self.average = [weight.detach().clone() for weight in weights] if decay else []

    @torch.no_grad()
    def update(self) -> None:
        if self.decay:
            self.updates += 1
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            lists.lerp_(self.average, [weight.detach() for weight in self.weights], 1.0 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self.weights, self.average, strict=False):
            kept: Tensor = weight.detach().clone()
            weight.copy_(average)
            average.copy_(kept)

    def state(self) -> dict[str, Any]:
        """The state that `load` takes, for any layout of the weights. All processes must call it together."""
        pairs = zip(self.average, self.weights, strict=False)
        return {"updates": self.updates, "average": [self.layout.kept(value, weight) for value, weight in pairs]}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        weights = self.weights if self.average else []
        for average, saved, weight in zip(self.average, state["average"], weights, strict=True):
            average.copy_(self.layout.own(saved, weight))
