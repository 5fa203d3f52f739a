"""Where the numbers of weights are: all in every process, or a part in each. Optimizers need not know."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Compute = Callable[[list[Tensor]], list[Tensor]]


class Layout:
    """Every process has all numbers.

    `held` is the part of a weight that this process has. A value is a tensor like it: a moment, an average.
    """

    def of(self, weight: nn.Parameter) -> nn.Parameter:
        """The part of a weight of the trained model that this process has."""
        return weight

    def shape(self, held: Tensor) -> torch.Size:
        """The shape of the whole weight."""
        return held.shape

    def own(self, whole: Tensor, held: Tensor) -> Tensor:
        """The part of a whole value that this process has. ValueError: it has another shape than the weight."""
        if whole.shape != self.shape(held):
            raise ValueError(f"{tuple(whole.shape)} is not the shape of its weight, {tuple(self.shape(held))}")
        return whole

    def kept(self, value: Tensor, held: Tensor) -> Tensor:
        """The whole value, made of the parts in the processes. A divided value is gathered on the first one's CPU.

        All processes must call it together.
        """
        return value

    def computed(self, compute: Compute, values: list[Tensor], held: Sequence[Tensor], first: int) -> list[Tensor]:
        """This process's part of what `compute` gives for whole values; the results have the same shapes.

        Processes take turns; `first` is the number of turns before.
        """
        return compute(values)
