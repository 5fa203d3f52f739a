"""Boolean attention masks: True = may attend, broadcastable to (B, H, Tq, Tk)."""

import torch
from torch import Tensor


def key_mask(real: Tensor | None) -> Tensor | None:
    """Keys that are padding may not be attended to; every query may ask, pad or not.

    Args:
        real: (B, Tk) booleans, True for a real token; None when all are.

    Returns:
        (B, 1, 1, Tk), or None.

    Raises:
        ValueError: `real` is not a boolean matrix.
    """
    if real is None:
        return None
    if real.dtype != torch.bool or real.dim() != 2:
        raise ValueError(
            f"a padding mask is (B, T) booleans, True for a real token; got {tuple(real.shape)} of {real.dtype}"
        )
    return real[:, None, None, :]  # (B, 1, 1, Tk)


def causal_mask(n_queries: int, n_keys: int | None = None, *, device: torch.device | None = None) -> Tensor:
    """Query i may attend to keys up to its own place; with more keys than queries, the queries are the last ones.

    Returns:
        (Tq, Tk) booleans: the mask of "Attention Is All You Need", section 3.2.3.
    """
    n_keys = n_queries if n_keys is None else n_keys
    ones = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    return ones.tril(n_keys - n_queries)  # (Tq, Tk)


def window_mask(queries: Tensor, keys: Tensor, window: int) -> Tensor:
    """Keys less than `window` places before the query, and all after it: that is for causality to forbid.

    Args:
        queries, keys: places, (Tq,) and (Tk,).
        window: tokens that are seen, the query's own included (Beltagy et al. 2020, "Longformer", section 3.1).

    Returns:
        (Tq, Tk) booleans.
    """
    return keys > queries[:, None] - window


def combine_masks(*masks: Tensor | None) -> Tensor | None:
    """What every given mask allows; None when none is given. Shapes broadcast."""
    combined: Tensor | None = None
    for mask in masks:
        if mask is not None:
            combined = mask if combined is None else combined & mask
    return combined
