"""Dropout (Srivastava et al. 2014)."""

from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_probabilities
from transformer_zoo.kernels.dropping import dropout


class Dropout(nn.Module):
    """In training mode, zero each element with probability p and scale the rest by 1 / (1 - p).

    Shapes: any -> the same.
    >>> Dropout(0.5)(torch.ones(100)).unique()
    tensor([0., 2.])
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        check_probabilities(p=p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p}"
