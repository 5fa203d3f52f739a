"""Positions as scores: attention adds to each score a number that depends on the distance between query and key.

Shapes: B batch (or 1, where all rows have the same positions), Tq queries, Tk keys, H heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_flags, check_sizes
from transformer_zoo.blocks.positions import Positions
from transformer_zoo.blocks.tables import Tables


def distances(queries: Tensor, keys: Tensor) -> Tensor:
    """Distance from each query to each key: positions (B, Tq) and (B, Tk) -> key - query, (B, Tq, Tk)."""
    return keys[:, None, :] - queries[:, :, None]


def alibi_slopes(n_heads: int, *, device: torch.device | None = None) -> Tensor:
    """The slope of each head, (H,) float32: 2^(-8/H), 2^(-16/H), ..., 2^-8 (Press et al. 2022, section 3).

    If H is not a power of two: the slopes of the next lower power of two, then every other one of the next higher.
    """
    whole = 1 << (n_heads.bit_length() - 1)  # the largest power of two that is at most H
    slopes = [2 ** (-8 * i / whole) for i in range(1, whole + 1)]
    slopes += [2 ** (-4 * i / whole) for i in range(1, 2 * (n_heads - whole), 2)]
    return torch.tensor(slopes, device=device)


class AlibiBias(Tables, Positions):
    """-slope * distance, with nothing learned: attention with linear biases (Press et al. 2022, "Train Short, Test
    Long").

    Shapes: positions (B, Tq) and (B, Tk) -> (B, H, Tq, Tk).
    >>> AlibiBias(8)(torch.tensor([[3]]), torch.tensor([[1, 2]]))[0, 0]  # the first of 8 slopes is 1/2
    tensor([[-1.0000, -0.5000]])
    """

    slopes: Tensor
    scores_by_place = True

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        check_sizes(n_heads=n_heads)
        self.n_heads = n_heads
        self.compute_tables()

    def tables(self, device: torch.device | None) -> dict[str, Tensor]:
        """The slope of each head, (H,)."""
        return {"slopes": alibi_slopes(self.n_heads, device=device)}

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Positions (B, Tq) and (B, Tk) -> the bias, (B, H, Tq, Tk), the same on both sides of a query."""
        self.bring_to(queries.device)
        return -self.slopes[:, None, None] * distances(queries, keys).abs()[:, None]


class RelativeBias(Positions):
    """A learned score for each head and bucket of distances (Raffel et al. 2020, "T5", section 2.1).

    Half of the buckets hold one distance each. The others grow with the logarithm of the distance, up to
    `max_distance`, and the last bucket takes everything beyond.
    >>> RelativeBias(8).bucket(torch.tensor([-3, 0, 3, 500]))
    tensor([ 3,  0, 19, 31])

    Args:
        n_heads: H.
        buckets: number of buckets.
        max_distance: all distances from here on share one bucket.
        bidirectional: half of the buckets are for keys after the query, as in an encoder. Otherwise such keys share the
            bucket of distance 0, and a mask hides them.

    Raises:
        ValueError: there are too few buckets, or the buckets of one distance each already reach max_distance.
    """

    scores_by_place = True
    lookups = ("weight",)
    reads = writes = ()  # its vectors have one number for each head

    def __init__(self, n_heads: int, *, buckets: int = 32, max_distance: int = 128, bidirectional: bool = True) -> None:
        super().__init__()
        check_sizes(n_heads=n_heads, buckets=buckets, max_distance=max_distance)
        check_flags(bidirectional=bidirectional)
        exact = buckets // (4 if bidirectional else 2)
        if exact < 1 or max_distance <= exact:
            raise ValueError(
                f"buckets {buckets} and max_distance {max_distance}: {exact} distances get a bucket of their own, "
                "which must be at least 1 and less than max_distance"
            )
        self.buckets, self.max_distance, self.bidirectional = buckets, max_distance, bidirectional
        self.weight = nn.Parameter(torch.empty(buckets, n_heads).normal_(std=0.02))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Positions (B, Tq) and (B, Tk) -> the bias, (B, H, Tq, Tk)."""
        buckets = self.bucket(distances(queries, keys))  # (B, Tq, Tk)
        return F.embedding(buckets, self.weight).permute(0, 3, 1, 2)  # (B, H, Tq, Tk)

    def bucket(self, distance: Tensor) -> Tensor:
        """Bucket of each distance key - query; any shape, int64 -> the same."""
        n = self.buckets // 2 if self.bidirectional else self.buckets
        first = (distance > 0) * n if self.bidirectional else 0
        size = distance.abs() if self.bidirectional else (-distance).clamp_min(0)
        exact = n // 2
        growth = torch.log(size.clamp_min(1).float() / exact) / math.log(self.max_distance / exact)
        far = (exact + (growth * (n - exact)).long()).clamp_max(n - 1)
        return first + torch.where(size < exact, size, far)

    def extra_repr(self) -> str:
        return f"buckets={self.buckets}, max_distance={self.max_distance}, bidirectional={self.bidirectional}"
