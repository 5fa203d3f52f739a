"""Token embedding: scale, pad row, tied output."""

import torch
from torch.testing import assert_close

from transformer_zoo.blocks import TokenEmbedding


def test_rows_times_the_square_root_of_the_width() -> None:
    ids = torch.tensor([[3, 1], [0, 3]])
    embedding = TokenEmbedding(5, 16)
    assert_close(embedding(ids), embedding.weight[ids] * 4)
    plain = TokenEmbedding(5, 16, scale=False)
    assert torch.equal(plain(ids), plain.weight[ids])


def test_entries_start_with_variance_one_over_the_width() -> None:
    weight = TokenEmbedding(2000, 64, pad_id=1).weight
    assert weight[1].count_nonzero() == 0
    others = weight[2:].detach()
    assert abs(others.mean().item()) < 0.002
    assert abs(others.std().item() - 64**-0.5) < 0.002


def test_no_row_is_zero_without_a_pad() -> None:
    assert (TokenEmbedding(9, 4).weight != 0).any(-1).all()


def test_the_pad_row_gets_no_gradient_from_the_input_side() -> None:
    embedding = TokenEmbedding(5, 4, pad_id=2)
    embedding(torch.tensor([[2, 3, 2, 3]])).sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad[2].count_nonzero() == 0
    assert_close(embedding.weight.grad[3], torch.full((4,), 4.0))  # twice, times sqrt(4)


def test_tied_logits_are_products_with_unscaled_rows() -> None:
    embedding, hidden = TokenEmbedding(5, 4), torch.randn(2, 3, 4)
    assert_close(embedding.logits(hidden), hidden @ embedding.weight.T)


def test_both_sides_of_a_tied_matrix_add_their_gradients() -> None:
    embedding, ids = TokenEmbedding(5, 4, pad_id=0), torch.tensor([[1, 0]])
    weight = embedding.weight.detach().clone().requires_grad_()
    embedding.logits(embedding(ids)).square().sum().backward()
    inputs = weight[ids] * torch.tensor([[[2.0], [0.0]]])  # the pad is zero, and constant
    (inputs @ weight.T).square().sum().backward()
    assert embedding.weight.grad is not None
    assert_close(embedding.weight.grad, weight.grad)
