"""Token embedding: scale, pad row, tied output; n-grams: what they depend on, and how they share rows."""

from itertools import product

import pytest
import torch
from torch.testing import assert_close

from transformer_zoo.blocks import NgramEmbedding, TokenEmbedding


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
    embedding, ids = TokenEmbedding(5, 4, pad_id=0), torch.tensor([[1, 0, 3, 1]])
    weight = embedding.weight.detach().clone().requires_grad_()
    inputs = weight[ids] * torch.tensor([[[2.0], [0.0], [2.0], [2.0]]])  # the pad is zero, and constant
    (inputs @ weight.T).square().sum().backward()
    embedding.logits(embedding(ids)).square().sum().backward()
    assert embedding.weight.grad is not None
    assert_close(embedding.weight.grad, weight.grad)


def filled(n: int, rows: int, d_model: int = 5) -> NgramEmbedding:
    embedding = NgramEmbedding(d_model, n, rows)
    torch.nn.init.normal_(embedding.weight)
    return embedding


def test_ngrams_start_at_zero() -> None:
    assert NgramEmbedding(5, 3, 7)(torch.randint(9, (2, 4))).count_nonzero() == 0


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_token_depends_on_the_last_n_tokens_and_no_others(n: int) -> None:
    embedding, ids = filled(n, 4093), torch.randint(50, (1, 11))
    before = embedding(ids)
    for place in range(11):
        changed = ids.clone()
        changed[0, place] += 1
        differs = (embedding(changed) != before).any(-1)[0]
        assert differs.tolist() == [place <= i < place + n for i in range(11)]


def test_ngrams_share_rows_evenly() -> None:
    """Every row serves about as many of all bigrams and trigrams of 23 tokens; each length keeps to its own rows."""
    rows = 101
    embedding = NgramEmbedding(2 * rows, 3, rows)
    embedding.weight.data = torch.eye(2 * rows)
    ids = torch.tensor(list(product(range(23), repeat=3)))  # (23^3, 3)
    counts = embedding(ids)[:, 2].sum(0).view(2, rows)
    assert counts.sum(1).tolist() == [23**3, 23**3]
    of_bigrams = counts[0] / 23
    assert of_bigrams.min() > 0
    assert of_bigrams.max() < 3 * 23**2 / rows
    assert counts[1].min() > 0.6 * 23**3 / rows
    assert counts[1].max() < 1.5 * 23**3 / rows


def test_tokens_before_can_be_given() -> None:
    embedding, ids = filled(3, 97), torch.randint(50, (4, 9))
    whole = embedding(ids)
    assert_close(embedding(ids[:, 5:], ids[:, 3:5]), whole[:, 5:])
    nothing = torch.full((4, 2), -1)
    assert torch.equal(embedding(ids, nothing), whole)


def test_ngrams_end_at_a_document() -> None:
    embedding, ids = filled(3, 97), torch.randint(50, (2, 9))
    documents = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 3, 3]]).expand(2, -1)
    pieces = [embedding(part) for part in ids.split([4, 2, 1, 2], dim=1)]
    assert_close(embedding(ids, documents=documents), torch.cat(pieces, dim=1))


def test_one_token_is_no_ngram() -> None:
    with pytest.raises(ValueError, match="n is 1, expected a whole number of at least 2"):
        NgramEmbedding(4, 1, 5)
