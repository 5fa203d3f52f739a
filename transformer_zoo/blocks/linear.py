"""Linear projection."""

from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_flags, check_sizes
from transformer_zoo.kernels.projection import linear


class Linear(nn.Linear):
    """x W^T + b. Shapes: (..., D) -> (..., E); `weight` (E, D), `bias` (E,).
    >>> Linear(512, 2048)(torch.zeros(2, 5, 512)).shape
    torch.Size([2, 5, 2048])
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        check_sizes(in_features=in_features, out_features=out_features)
        check_flags(bias=bias)
        super().__init__(in_features, out_features, bias)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
