"""Masks: True = may attend."""

import pytest
import torch

from transformer_zoo.blocks import causal_mask, combine_masks, key_mask, window_mask


def test_a_key_mask_hides_keys_from_every_query() -> None:
    real = torch.tensor([[True, True, False], [True, False, False]])
    mask = key_mask(real)
    assert mask is not None
    assert mask.shape == (2, 1, 1, 3)
    assert mask.flatten().tolist() == real.flatten().tolist()
    assert key_mask(None) is None


@pytest.mark.parametrize(
    "wrong", [torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int64), torch.ones(3, dtype=torch.bool)]
)
def test_a_key_mask_is_a_boolean_matrix(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="booleans"):
        key_mask(wrong)


def test_the_causal_mask() -> None:
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]
    assert causal_mask(3, 1).tolist() == [[False], [False], [True]]


def test_combined_masks_allow_what_all_allow() -> None:
    real = torch.tensor([[True, False, True]])
    combined = combine_masks(None, causal_mask(3), key_mask(real))
    assert combined is not None
    assert combined[0, 0].tolist() == [[True, False, False], [True, False, False], [True, False, True]]
    assert combine_masks(None, None) is None


def test_a_window_ends_behind_the_query() -> None:
    got = window_mask(torch.tensor([3, 4]), torch.arange(6), 2)
    assert got.tolist() == [[False, False, True, True, True, True], [False, False, False, True, True, True]]
