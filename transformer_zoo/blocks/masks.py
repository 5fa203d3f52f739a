"""Boolean attention masks: True = may attend, broadcastable to (B, H, Tq, Tk)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from transformer_zoo.kernels.derivatives import is_traced


def check_mask(mask: Any, shape: Sequence[int] | None = None, *, name: str = "mask") -> None:
    """The one check of masks, called by every function that takes one.
    >>> check_mask(causal_mask(5), (2, 8, 5, 5))

    Raises:
        ValueError: the mask is neither None nor booleans that broadcast to the shape.
    """
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise ValueError(
            f"{name} is {described(mask)}, expected a tensor of booleans, True = may attend: of ones and zeros "
            f"{name}.bool(), of zeros and -inf {name} == 0"
        )
    _check_shape(name, mask, shape)


def check_bias(bias: Any, shape: Sequence[int] | None = None) -> None:
    """Check a bias that is added to scores.

    Raises:
        ValueError: it is neither None nor floating-point numbers that broadcast to the shape.
    """
    if bias is None:
        return
    if not isinstance(bias, Tensor) or not bias.is_floating_point():
        raise ValueError(
            f"bias is {described(bias)}, expected a tensor of floating-point numbers, which are added to the scores; "
            "what may be attended to is a mask"
        )
    _check_shape("bias", bias, shape)


def _check_shape(name: str, given: Tensor, shape: Sequence[int] | None) -> None:
    if shape is not None and not is_traced() and not _broadcasts(given.shape, shape):
        raise ValueError(f"{name} is {described(given)}, which does not broadcast to {_axes(shape)}{tuple(shape)}")


def described(value: Any) -> str:
    """A value as an error shows it: shape and type of a tensor or an array, else the name of its type."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{tuple(value.shape)} of {value.dtype}" + ("" if isinstance(value, Tensor) else ", no torch.Tensor")
    return f"a {type(value).__name__}"


def _axes(shape: Sequence[int]) -> str:
    return "(B, H, Tq, Tk) = " if len(shape) == 4 else ""


def _broadcasts(given: Sequence[int], shape: Sequence[int]) -> bool:
    if len(given) > len(shape):
        return False
    for n, wanted in zip(reversed(given), reversed(shape), strict=False):  # noqa: SIM110  (every attention asks)
        if n != 1 and n != wanted:
            return False
    return True


def key_mask(real: Tensor | None, shape: Sequence[int] | None = None, *, name: str = "a padding mask") -> Tensor | None:
    """Forbid attention to keys that are padding. Every query may ask, padding or not.
    >>> key_mask(torch.tensor([[True, True, False]])).shape
    torch.Size([1, 1, 1, 3])

    Args:
        real: (B, Tk) booleans, True for a real token; None: all are real.
        shape: (B, Tk), to be checked where it is known.
        name: what an error message calls `real`.

    Returns:
        (B, 1, 1, Tk), or None.

    Raises:
        ValueError: `real` is not a boolean matrix, or has another shape.
    """
    if real is None:
        return None
    if not isinstance(real, Tensor) or real.dtype != torch.bool or real.dim() != 2:
        raise ValueError(f"{name} is (B, T) booleans, True for a real token; got {described(real)}")
    if shape is not None and tuple(real.shape) != tuple(shape):
        raise ValueError(f"{name} is {described(real)}, and its tokens are {tuple(shape)}: one boolean for each")
    return real[:, None, None, :]  # (B, 1, 1, Tk)


def causal_mask(n_queries: int, n_keys: int | None = None, *, device: torch.device | None = None) -> Tensor:
    """Query i may attend to keys up to its own position. If there are more keys than queries, the queries are the last
    ones.
    >>> causal_mask(2, 3).tolist()
    [[True, True, False], [True, True, True]]

    Returns:
        (Tq, Tk) booleans: the mask of section 3.2.3 of "Attention Is All You Need".
    """
    n_keys = n_queries if n_keys is None else n_keys
    ones = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    return ones.tril(n_keys - n_queries)  # (Tq, Tk)


def window_mask(queries: Tensor, keys: Tensor, window: int) -> Tensor:
    """Keys less than `window` positions before the query, and all keys after it; causality forbids those after it.
    >>> window_mask(torch.tensor([3]), torch.arange(4), window=2).tolist()
    [[False, False, True, True]]

    Args:
        queries, keys: positions, (Tq,) and (Tk,).
        window: number of keys that are seen, the query's own included (Beltagy et al. 2020, "Longformer", section 3.1).

    Returns:
        (Tq, Tk) booleans.

    Raises:
        ValueError: the window is less than 1, or positions are not vectors.
    """
    if window < 1 or queries.dim() != 1 or keys.dim() != 1:
        raise ValueError(
            f"a window of {window} over places of {tuple(queries.shape)} and {tuple(keys.shape)}: expected at least 1, "
            "(Tq,) and (Tk,)"
        )
    return keys > queries[:, None] - window


def newest(mask: Tensor, window: int) -> Tensor:
    """The last `window` keys that a mask (..., Tk) allows: a sliding window for keys that are not one text."""
    return mask & (mask.flip(-1).cumsum(-1).flip(-1) <= window)


def combine_masks(*masks: Tensor | None) -> Tensor | None:
    """What all given masks allow; None if none is given. Shapes broadcast.
    >>> combine_masks(causal_mask(2), torch.tensor([False, True])).tolist()
    [[False, False], [False, True]]

    Raises:
        ValueError: a mask is not boolean, or shapes do not broadcast.
    """
    combined: Tensor | None = None
    for mask in masks:
        if mask is None:
            continue
        check_mask(mask)
        try:
            combined = mask if combined is None else combined & mask
        except RuntimeError:
            assert combined is not None
            raise ValueError(
                f"masks of {tuple(combined.shape)} and {tuple(mask.shape)} do not broadcast to one shape"
            ) from None
    return combined
