"""Decoding with a cache gives the logits of decoding without."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.models.helpers import VARIANTS, real, small_model, tokens
from transformer_zoo import EncoderDecoder

variants = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
LENGTHS = [6, 2, 4]


def setup(**changes: Any) -> tuple[EncoderDecoder, Tensor, Tensor, Tensor, Tensor]:
    """A model, a batch with padded sources, and the logits without a cache."""
    model, source, target, mask = small_model(**changes), tokens(3, 6), tokens(3, 8), real(LENGTHS)
    memory = model.encode(source, mask)
    return model, memory, mask, target, model.decode(target, memory, mask)


@variants
@pytest.mark.parametrize("sizes", [[1] * 8, [3, 1, 4], [8]], ids=["tokens", "chunks", "at once"])
def test_cache_equals_no_cache(changes: dict[str, Any], sizes: list[int]) -> None:
    model, memory, mask, target, wanted = setup(**changes)
    cache = model.new_cache(memory, capacity=11)
    pieces = []
    for part in target.split(sizes, dim=1):
        pieces.append(model.decode(part, source_mask=mask, cache=cache))
        assert cache.length == sum(p.size(1) for p in pieces)
    assert_close(torch.cat(pieces, dim=1), wanted, rtol=1e-5, atol=1e-5)


@variants
def test_rows_may_leave_and_change_places(changes: dict[str, Any]) -> None:
    model, memory, mask, target, wanted = setup(**changes)
    cache, rows = model.new_cache(memory, capacity=8), torch.tensor([2, 0])
    model.decode(target[:, :3], source_mask=mask, cache=cache)
    cache.select(rows)
    got = model.decode(target[rows, 3:5], source_mask=mask[rows], cache=cache)
    assert_close(got, wanted[rows, 3:5], rtol=1e-5, atol=1e-5)
    cache.select(torch.tensor([1, 1]))  # once more, and a row twice
    rows = rows[[1, 1]]
    got = model.decode(target[rows, 5:], source_mask=mask[rows], cache=cache)
    assert_close(got, wanted[rows, 5:], rtol=1e-5, atol=1e-5)


@variants
def test_several_tokens_may_have_one_place(changes: dict[str, Any]) -> None:
    """Two branches of one token each, then one more token after the second: as if each were alone."""
    model, memory, mask, _, _ = setup(**changes)
    trunk, branches, last = tokens(3, 2), tokens(3, 2), tokens(3, 1)
    cache = model.new_cache(memory, capacity=5)
    model.decode(trunk, source_mask=mask, cache=cache)
    sees = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 1]]).bool()[None, None]  # (1, 1, 2, 4)
    one = torch.tensor([[2]])
    model.decode(branches, source_mask=mask, positions=one, attention_mask=sees, cache=cache)
    sees = torch.tensor([[1, 1, 0, 1, 1]]).bool()[None, None]
    got = model.decode(last, source_mask=mask, positions=one + 1, attention_mask=sees, cache=cache)
    alone = model.decode(torch.cat([trunk, branches[:, 1:], last], dim=1), memory, mask)
    assert_close(got, alone[:, -1:], rtol=1e-5, atol=1e-5)


@variants
def test_a_tree_of_hypotheses(changes: dict[str, Any]) -> None:
    """A trunk and two branches in one row, the second of which forks: each as if it were alone."""
    model, memory, mask, _, _ = setup(**changes)
    trunk, a, b, c = tokens(3, 3), tokens(3, 2), tokens(3, 2), tokens(3, 1)
    sees = {  # columns: trunk 0-2, a0 3, b0 4, a1 5, b1 6, c1 7
        "a0": [0, 1, 2, 3],
        "b0": [0, 1, 2, 4],
        "a1": [0, 1, 2, 3, 5],
        "b1": [0, 1, 2, 4, 6],
        "c1": [0, 1, 2, 4, 7],
    }

    def tree_mask(names: list[str], width: int) -> Tensor:
        rows = torch.zeros(len(names), width, dtype=torch.bool)
        for i, name in enumerate(names):
            rows[i, sees[name]] = True
        return rows.expand(3, 1, -1, -1)  # (B, 1, Tq, Tk)

    cache = model.new_cache(memory, capacity=8)
    model.decode(trunk, source_mask=mask, cache=cache)
    first = model.decode(
        torch.stack([a[:, 0], b[:, 0]], dim=1),
        source_mask=mask,
        positions=torch.tensor([3, 3]),
        attention_mask=tree_mask(["a0", "b0"], 5),
        cache=cache,
    )
    second = model.decode(
        torch.stack([a[:, 1], b[:, 1], c[:, 0]], dim=1),
        source_mask=mask,
        positions=torch.tensor([4, 4, 4]),
        attention_mask=tree_mask(["a1", "b1", "c1"], 8),
        cache=cache,
    )
    for branch, places in (
        (a, (first[:, 0], second[:, 0])),
        (b, (first[:, 1], second[:, 1])),
        (torch.cat([b[:, :1], c], dim=1), (first[:, 1], second[:, 2])),
    ):
        alone = model.decode(torch.cat([trunk, branch], dim=1), memory, mask)
        assert_close(torch.stack(places, dim=1), alone[:, 3:], rtol=1e-5, atol=1e-5)


def test_an_attention_mask_and_positions_without_a_cache() -> None:
    model, memory, mask, target, wanted = setup()
    triangle = torch.ones(8, 8, dtype=torch.bool).tril()[None, None]
    got = model.decode(target, memory, mask, positions=torch.arange(8), attention_mask=triangle)
    assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    order = torch.randperm(8)  # the place in the tensor means nothing; positions and mask say all
    got = model.decode(
        target[:, order], memory, mask, positions=order, attention_mask=triangle[:, :, order][:, :, :, order]
    )
    assert_close(got, wanted[:, order], rtol=1e-5, atol=1e-5)


def test_positions_for_each_row() -> None:
    model, memory, mask, target, wanted = setup()
    shifted = model.decode(target, memory, mask, positions=torch.arange(8).expand(3, 8))
    assert_close(shifted, wanted)
    moved = model.decode(target, memory, mask, positions=torch.arange(8) + torch.tensor([[0], [5], [0]]))
    assert_close(moved[[0, 2]], wanted[[0, 2]])
    assert not torch.allclose(moved[1], wanted[1], atol=1e-3)


def test_the_memory_is_projected_once() -> None:
    model, memory, mask, target, wanted = setup()
    cache = model.new_cache(memory, capacity=8)
    memory.fill_(torch.nan)  # nobody reads it again
    assert_close(model.decode(target, source_mask=mask, cache=cache), wanted, rtol=1e-5, atol=1e-5)


def test_a_full_cache_refuses_and_stays_usable() -> None:
    model, memory, mask, target, wanted = setup()
    cache = model.new_cache(memory, capacity=5)
    model.decode(target[:, :3], source_mask=mask, cache=cache)
    with pytest.raises(ValueError, match="6 tokens do not fit a cache of capacity 5"):
        model.decode(target[:, 3:6], source_mask=mask, cache=cache)
    got = model.decode(target[:, 3:5], source_mask=mask, cache=cache)
    assert_close(got, wanted[:, 3:5], rtol=1e-5, atol=1e-5)


def test_learned_positions_count_the_cache_and_leave_it_usable() -> None:
    model, memory, mask, target, wanted = setup(positions="learned", max_seq_len=8)
    cache = model.new_cache(memory, capacity=20)
    model.decode(target[:, :6], source_mask=mask, cache=cache)
    with pytest.raises(ValueError, match="9 tokens are more than max_seq_len 8"):
        model.decode(tokens(3, 3), source_mask=mask, cache=cache)
    got = model.decode(target[:, 6:], source_mask=mask, cache=cache)
    assert_close(got, wanted[:, 6:], rtol=1e-5, atol=1e-5)


def test_without_a_memory_or_a_cache_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="encoder's output"):
        small_model().decode(tokens(1, 2))
