"""The residual connection around a sublayer, in the paper's order and in the one most models use now."""

from collections.abc import Callable

from torch import Tensor

POSITIONS = ("post", "pre")


def check_norm_position(norm_position: str) -> str:
    """The same, if it is "post" or "pre".

    Raises:
        ValueError: it is neither.
    """
    if norm_position not in POSITIONS:
        raise ValueError(f"norm_position is {norm_position!r}, expected one of {', '.join(POSITIONS)}")
    return norm_position


def residual(
    x: Tensor,
    sublayer: Callable[[Tensor], Tensor],
    norm: Callable[[Tensor], Tensor],
    dropout: Callable[[Tensor], Tensor],
    norm_position: str = "post",
) -> Tensor:
    """Post-norm: LayerNorm(x + Dropout(Sublayer(x))), sections 3.1 and 5.4 of the paper.

    Pre-norm: x + Dropout(Sublayer(LayerNorm(x))).

    Shapes: x (B, T, D) -> (B, T, D).

    Raises:
        ValueError: norm_position is neither "post" nor "pre".
    """
    if check_norm_position(norm_position) == "post":
        return norm(x + dropout(sublayer(x)))
    return x + dropout(sublayer(norm(x)))
