"""Where the numbers of weights are: with every process, or some with each. What trains them need not know."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Compute = Callable[[list[Tensor]], list[Tensor]]


class Layout:
    """Every process has all. `held` is what it has of a weight; a value is a tensor like it: a moment, an average."""

    def of(self, weight: nn.Parameter) -> nn.Parameter:
        """What this process holds of a weight of the model that is trained."""
        return weight

    def shape(self, held: Tensor) -> torch.Size:
        """The shape of the whole weight."""
        return held.shape

    def own(self, whole: Tensor, held: Tensor) -> Tensor:
        """What this process holds of a whole value. ValueError: it has another shape than the weight."""
        if whole.shape != self.shape(held):
            raise ValueError(f"{tuple(whole.shape)} is not the shape of its weight, {tuple(self.shape(held))}")
        return whole

    def kept(self, value: Tensor, held: Tensor) -> Tensor:
        """The whole value, of what each process holds of it; where that is divided, on the first one's CPU alone.

        All processes must ask together.
        """
        return value

    def computed(self, compute: Compute, values: list[Tensor], held: Sequence[Tensor], first: int) -> list[Tensor]:
        """What `compute` gives for whole values, of the same shapes, and this process holds of that.

        Processes take turns; `first` is how many turns there were before.
        """
        return compute(values)
