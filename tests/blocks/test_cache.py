"""Caches: what is stored where, and what does not fit."""

import pytest
import torch

from transformer_zoo.blocks import KVCache, StaticKVCache

kinds = pytest.mark.parametrize("kind", [KVCache, StaticKVCache])


@kinds
def test_tokens_go_to_the_next_free_slots(kind: type[KVCache]) -> None:
    cache = kind.empty(2, 3, 7, 5)
    first, second = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 1, 5)
    cache.append(first, -first)
    keys, values = cache.append(second, -second)
    assert keys.shape == values.shape == (2, 3, 5 if kind is KVCache else 7, 5)
    assert torch.equal(keys[:, :, :5], torch.cat([first, second], dim=2))
    assert torch.equal(values, -keys)
    assert keys[:, :, 5:].count_nonzero() == 0
    assert (int(cache.length), cache.capacity) == (5, 7)


def test_each_token_sees_those_before_it_and_itself() -> None:
    growing, static = KVCache.empty(1, 1, 4, 2), StaticKVCache.empty(1, 1, 4, 2)
    two = torch.randn(1, 1, 2, 2)
    for cache in (growing, static):
        cache.append(two, two)
    assert growing.causal_mask(2).tolist() == [[True, True, True, False], [True, True, True, True]]
    assert static.causal_mask(2).tolist() == growing.causal_mask(2).tolist()
    assert static.causal_mask(1).tolist() == [[True, True, True, False]]
    assert growing.causal_mask(1) is None  # the last one sees all


@pytest.mark.parametrize("rows", [[2, 0, 2], [2, 1], [1, 2, 0], [0], []])
@kinds
def test_rows_are_kept_in_the_order_asked_for(kind: type[KVCache], rows: list[int]) -> None:
    cache = kind.empty(3, 1, 2, 1)
    values = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    cache.append(values, values * 10)
    cache.select(torch.tensor(rows, dtype=torch.int64))
    assert cache.keys[:, 0, 0, 0].tolist() == [row + 1 for row in rows]
    assert cache.values[:, 0, 0, 0].tolist() == [10 * (row + 1) for row in rows]
    assert cache.length == 1


@kinds
def test_more_than_the_capacity_is_refused(kind: type[KVCache]) -> None:
    cache = kind.empty(1, 1, 2, 2)
    with pytest.raises(ValueError, match="3 tokens do not fit a cache of capacity 2"):
        cache.append(torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2))
    two = torch.zeros(1, 1, 2, 2)
    cache.append(two, two)
    # For the static cache the check is torch's own: the length is a tensor, and reading it would stall a GPU.
    with pytest.raises(ValueError if kind is KVCache else IndexError):
        cache.append(two, two)


@kinds
def test_another_dtype_is_brought_to_the_caches(kind: type[KVCache]) -> None:
    cache = kind.empty(1, 1, 2, 2, dtype=torch.bfloat16)
    keys, values = cache.append(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    assert keys.dtype == values.dtype == torch.bfloat16
