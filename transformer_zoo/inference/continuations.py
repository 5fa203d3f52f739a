"""The best next tokens of hypotheses and their costs.

Shapes: S sources, W hypotheses of each, E end tokens, V vocabulary.
"""

import math
from functools import cache

import torch
from torch import Tensor


def continuations(
    logits: Tensor, k: int, special: Tensor, forced: Tensor | None, n_ends: int, *, normalise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The k best next tokens that are not special, (S, W, k), their log-probabilities, and those of the ends (S, W, E).

    Log-probabilities are normalised over all V; if not `normalise`, logits are log-probabilities already. Where a token
    is forced (S,), the others get -inf. `logits` is overwritten.
    """
    choices, n_never = logits, len(special) - n_ends
    if forced is not None:
        vocabulary = torch.arange(logits.size(-1), device=logits.device)
        choices = logits.masked_fill(((forced[:, None] >= 0) & (forced[:, None] != vocabulary))[:, None], -math.inf)
    held = choices.index_select(-1, special)
    values, ids = top_k(choices.index_fill_(-1, special, -math.inf), k)
    if not normalise:
        return ids, values, held[..., n_never:]
    choices.index_copy_(-1, special, held)
    highest = logits if forced is not None else torch.cat([values[..., :1], held], -1)
    peak = highest.amax(-1, keepdim=True)  # (S, W, 1)
    # In place: for 32,000 pieces, new memory for the exponentials costs more than the exponentials.
    log_normaliser = logits.sub_(peak).exp_().sum(-1, keepdim=True).log_() + peak  # (S, W, 1)
    return ids, values - log_normaliser, held[..., n_never:] - log_normaliser


def top_k(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`x.topk(k)` over the last axis, three times as fast for a vocabulary.

    The k largest values lie in the k blocks with the largest maxima.
    """
    block = _block_size(x.size(-1))
    if x.size(-1) // block <= k or block == 1:
        values, ids = x.topk(k)
        return values, ids
    blocks = x.unflatten(-1, (-1, block))  # (..., V / block, block)
    best = (
        blocks.amax(-1).topk(k).indices.sort().values
    )  # (..., k); sorted, so that among equal values low ids come first
    inside = blocks.gather(-2, best[..., None].expand(*best.shape, block)).flatten(-2)  # (..., k * block)
    values, places = inside.topk(k)
    return values, best.gather(-1, places // block) * block + places % block


@cache
def _block_size(n: int) -> int:
    """The divisor of n nearest to 64 among those from 16 to 128, or 1."""
    return min((d for d in range(16, 129) if n % d == 0), key=lambda d: abs(d - 64), default=1)


def children(x: Tensor, parents: Tensor) -> Tensor:
    """x (S, W, n) with the rows `parents` (S, W') of each source: x[s, parents[s, w]], (S, W', n)."""
    return x.gather(1, parents[:, :, None].expand(-1, -1, x.size(2)))


def behind(texts: Tensor, n: int, late: Tensor) -> Tensor:
    """Texts (S, W, T) whose first n tokens are moved `late` (S,) positions to the right, over -1; -1 is left before."""
    late, places = late[:, None], torch.arange(texts.size(2), device=texts.device).expand(len(texts), -1)  # (S, T)
    places = torch.where(places < n + late, places - late, places)
    moved = texts.gather(2, places.clamp_min(0)[:, None].expand_as(texts))
    return moved.masked_fill(places[:, None] < 0, -1)
