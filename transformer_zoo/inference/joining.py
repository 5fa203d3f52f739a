"""Joins two searches into one, even if they began at different times.

Shapes: S sources, W hypotheses of each, P tokens of what answers follow.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.inference.search import Search


def join_searches(one: Search, other: Search, slots: int) -> None:
    """Add the sources of another search with the same settings to this one.

    slots: number of slots in the cache; the tokens of both searches end at the same slot.
    """
    width = max(one.tokens.size(1), other.tokens.size(1))
    parts = [one, other]
    for part in parts:
        _widen(part, width)
        align(part, slots)

    def join(field: Callable[[Search], Tensor], fill: int, *, left: bool = False) -> Tensor:
        tensors = [field(part) for part in parts]
        longest = max(tensor.size(-1) for tensor in tensors)
        missing = [longest - tensor.size(-1) for tensor in tensors]
        pads = [(n, 0) if left else (0, n) for n in missing]
        return torch.cat([F.pad(tensor, pad, value=fill) for tensor, pad in zip(tensors, pads, strict=True)])

    if one.forced is not None or other.forced is not None:
        one.forced = join(_forced, -1)
    one.opening = join(lambda part: part.opening, -1, left=True)
    one.tokens = join(lambda part: part.tokens, -1, left=True)
    one.done_tokens = join(lambda part: part.done_tokens, -1)
    for name in ("lengths", "log_probs", "ancestors", "done_log_probs", "done_scores", "lenient", "limits"):
        setattr(one, name, torch.cat([getattr(part, name) for part in parts]))
    one.ages += other.ages


def align(search: Search, slots: int) -> None:
    """Tell a search that its tokens end at another slot of the cache, after which the next ones are stored."""
    width = search.tokens.size(1)
    search.ancestors = F.pad(search.ancestors, (slots + width - search.ancestors.size(2), 0), value=False)


def _forced(search: Search) -> Tensor:
    return search.tokens.new_full((len(search.tokens), 0), -1) if search.forced is None else search.forced


def _widen(search: Search, width: int) -> None:
    """Add hypotheses to each source, none of which can win."""
    n, now, _ = search.tokens.shape
    if now == width:
        return
    like = torch.arange(width, device=search.tokens.device).clamp_max(now - 1)
    past = search.ancestors[:, like, : search.ancestors.size(2) - now]  # (S, W, slots)
    own = torch.eye(width, dtype=torch.bool, device=past.device).expand(n, -1, -1)
    search.tokens, search.ancestors = search.tokens[:, like], torch.cat([past, own], 2)
    search.log_probs = F.pad(search.log_probs, (0, width - now), value=-math.inf)
