"""Scores by distance: the numbers of the papers, and what they promise."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from transformer_zoo.blocks import AlibiBias, Attention, RelativeBias
from transformer_zoo.blocks.relative_bias import alibi_slopes


def places(start: int, stop: int) -> Tensor:
    return torch.arange(start, stop)[None]


def test_alibi_slopes_by_hand() -> None:
    """The paper's example for 8 heads: 1/2, 1/4, ..., 1/256. Between two powers of two come those of the next power."""
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert_close(alibi_slopes(3), torch.tensor([2.0**-4, 2.0**-8, 2.0**-2]))


def test_alibi_falls_with_the_distance() -> None:
    bias = AlibiBias(2)(places(3, 5), places(0, 5))  # (1, 2, 2, 5)
    assert bias[0, 0, 0].tolist() == [-3 / 16, -2 / 16, -1 / 16, 0, -1 / 16]
    assert bias[0, 1, 1].tolist() == [-4 / 256, -3 / 256, -2 / 256, -1 / 256, 0]


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_by_hand(bidirectional: bool) -> None:
    """8 buckets up to 16 for one direction: 0 to 3, then from 4, 4 sqrt(2), 8, 8 sqrt(2) on; for two, half each."""
    bias = RelativeBias(3, buckets=8, max_distance=16, bidirectional=bidirectional)
    behind = bias.bucket(-torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 15, 16, 1000])).tolist()
    ahead = bias.bucket(torch.tensor([1, 2, 5, 6, 1000])).tolist()
    if bidirectional:  # exact: 0 and 1; then from 2 and from 2 sqrt(8) = 5.7 on
        assert behind == [0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]
        assert ahead == [5, 6, 6, 7, 7]
    else:
        assert behind == [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7, 7]
        assert ahead == [0] * 5


def test_relative_bias_depends_on_distance_alone() -> None:
    bias = RelativeBias(3, buckets=32, max_distance=128)
    assert_close(bias(places(0, 5), places(0, 7)), bias(places(900, 905), places(900, 907)))
    table = bias(torch.tensor([[0, 1], [5, 9]]), torch.tensor([[0, 1, 2], [5, 8, 7]]))  # (2, 3, 2, 3)
    for row, (i, j) in enumerate([(1, 2), (9, 7)]):
        assert_close(table[row, :, 1, 2], bias.weight[bias.bucket(torch.tensor(j - i))])


def test_attention_adds_the_bias_and_learns_it() -> None:
    """softmax(q k / sqrt(d) + bias), written out in float64; the gradient reaches the table."""
    torch.manual_seed(0)
    attention, bias = Attention(6, 2).double(), RelativeBias(2, buckets=6, max_distance=9).double()
    x = torch.randn(1, 5, 6, dtype=torch.float64)
    got = attention(x, bias=bias(places(0, 5), places(0, 5)))
    projections = attention.q_proj, attention.k_proj, attention.v_proj
    q, k, v = (project(x).view(1, 5, 2, 3).transpose(1, 2) for project in projections)
    scores = q @ k.transpose(-2, -1) / math.sqrt(3)
    for i in range(5):
        for j in range(5):
            scores[:, :, i, j] += bias.weight[bias.bucket(torch.tensor(j - i))]
    wanted = attention.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    assert_close(got, wanted)
    expected = torch.autograd.grad(wanted.square().sum(), bias.weight, retain_graph=True)[0]
    assert expected.abs().max() > 0
    assert_close(torch.autograd.grad(got.square().sum(), bias.weight)[0], expected)


@pytest.mark.parametrize("options", [{"buckets": 3}, {"buckets": 1, "bidirectional": False}, {"max_distance": 8}])
def test_buckets_that_cannot_be_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1 and less than max_distance"):
        RelativeBias(2, **options)  # type: ignore[arg-type]
