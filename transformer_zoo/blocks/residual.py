"""The residual connection around a sublayer, in the paper's order and in the one most models use now."""

from collections.abc import Callable

from torch import Tensor

POSITIONS = ("post", "pre")


def residual(
    x: Tensor,
    sublayer: Callable[[Tensor], Tensor],
    norm: Callable[[Tensor], Tensor],
    dropout: Callable[[Tensor], Tensor],
    norm_position: str = "post",
) -> Tensor:
    """Post-norm: LayerNorm(x + Dropout(Sublayer(x))), sections 3.1 and 5.4. Pre-norm: x + Dropout(Sublayer(LayerNorm(x))).

    Shapes: x (B, T, D) -> (B, T, D).

    Raises:
        ValueError: norm_position is neither "post" nor "pre".
    """
    if norm_position == "post":
        return norm(x + dropout(sublayer(x)))
    if norm_position == "pre":
        return x + dropout(sublayer(norm(x)))
    raise ValueError(f"norm_position is {norm_position!r}, expected one of {', '.join(POSITIONS)}")
