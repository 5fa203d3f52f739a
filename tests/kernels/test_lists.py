"""Sums over lists of tensors are what they are for one tensor, in one call or in many."""

from contextlib import nullcontext

import pytest
import torch
from torch.testing import assert_close

from transformer_zoo.kernels import lists, plain

SHAPES = [(3,), (5, 7), (2, 3, 11)]


@pytest.mark.parametrize("one_by_one", [False, True], ids=["in one call", "one by one"])
def test_each_tensor_gets_its_sum(one_by_one: bool) -> None:
    a, b = ([torch.randn(shape) for shape in SHAPES] for _ in range(2))
    wide_a, wide_b = ([x.double() for x in side] for side in (a, b))
    with plain() if one_by_one else nullcontext():
        assert_close(lists.lerp(a, b, 0.3), [(0.7 * x + 0.3 * y).float() for x, y in zip(wide_a, wide_b, strict=True)])
        lists.lerp_(a, b, 0.25)
        lists.scale_(a, 0.5)
        lists.add_(a, b, -2.0)
        wanted = [0.5 * (0.75 * x + 0.25 * y) - 2 * y for x, y in zip(wide_a, wide_b, strict=True)]
        assert_close(a, [x.float() for x in wanted])
        lists.zero_(a)
        assert all(not x.any() for x in a)
        lists.zero_([])
