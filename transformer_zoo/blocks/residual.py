"""The residual connection around a sublayer, in the paper's order and in the orders of other models."""

from collections.abc import Callable

from torch import Tensor

POSITIONS = ("post", "pre", "both", "out", "parallel", "parallel_shared", "pre_carried")

Function = Callable[[Tensor], Tensor]


def check_norm_position(norm_position: str) -> str:
    """The same position if it exists.

    Raises:
        ValueError: it does not exist.
    """
    if norm_position not in POSITIONS:
        raise ValueError(f"norm_position is {norm_position!r}, expected one of {', '.join(POSITIONS)}")
    return norm_position


def add_residual(
    x: Tensor,
    sublayer: Function,
    norm: Function,
    dropout: Function,
    norm_position: str = "post",
    out_norm: Function | None = None,
) -> Tensor:
    """Post-norm: LayerNorm(x + Dropout(Sublayer(x))), sections 3.1 and 5.4 of the paper.

    "pre": x + Dropout(Sublayer(Norm(x))); the same for "parallel" and "parallel_shared", see `EncoderLayer`. "both":
    the sublayer's output goes through `out_norm` before it is added (Gemma 2). "out": only the output is normalised, x
    + Dropout(Norm(Sublayer(x))) (OLMo 2). "pre_carried": like "pre", but the sublayer's output is added to Norm(x).

    Shapes: x (B, T, D) -> (B, T, D).
    >>> add_residual(torch.ones(2), sublayer=lambda x: 2 * x, norm=lambda x: x, dropout=lambda x: x)
    tensor([3., 3.])

    Raises:
        ValueError: norm_position has no such value, or "both" lacks an out_norm.
    """
    if norm_position == "post":
        return norm(x + dropout(sublayer(x)))
    if norm_position == "out":
        return x + dropout(norm(sublayer(x)))
    normed = norm(x)
    if norm_position in ("pre", "parallel", "parallel_shared"):
        return x + dropout(sublayer(normed))
    if check_norm_position(norm_position) == "pre_carried":
        return normed + dropout(sublayer(normed))
    if out_norm is None:
        raise ValueError("norm_position 'both' needs an out_norm")
    return x + dropout(out_norm(sublayer(normed)))
