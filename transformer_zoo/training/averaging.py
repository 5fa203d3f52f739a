"""An exponential moving average of the weights, for runs too short to average checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from transformer_zoo.kernels import lists


class MovingAverage:
    """After update n = 1, 2, ..: average = d * average + (1 - d) * weights; d = min(decay, (n + 1)/(n + 10)).

    With decay 0 nothing is kept, and `swapped` leaves the weights as they are.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.weights = list(model.parameters())
        self.average = [p.detach().clone() for p in self.weights] if decay else []

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the weights."""
        if self.decay:
            self.updates += 1
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            lists.lerp_(self.average, [p.detach() for p in self.weights], 1.0 - decay)

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
        """What `load` takes."""
        return {"updates": self.updates, "average": self.average}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""
        self.updates = state["updates"]
        for average, saved in zip(self.average, state["average"], strict=True):
            average.copy_(saved)
