"""Sinusoids against values worked out by hand, and learned positions against their limit."""

import math

import pytest
import torch
from torch.testing import assert_close

from transformer_zoo.blocks import LearnedPositions, SinusoidalPositions, sinusoids

# d_model 4: the two frequencies are 1 and 10000^(-1/2) = 0.01.
BY_HAND = [
    [0.0, 1.0, 0.0, 1.0],
    [0.8414709848, 0.5403023059, 0.0099998333, 0.9999500004],
    [0.9092974268, -0.4161468365, 0.0199986667, 0.9998000067],
]


def test_interleaved_as_in_the_paper() -> None:
    assert_close(sinusoids(torch.arange(3), 4), torch.tensor(BY_HAND), rtol=0, atol=1e-7)


def test_halves_as_in_marian() -> None:
    wanted = torch.tensor(BY_HAND)[:, [0, 2, 1, 3]]
    assert_close(sinusoids(torch.arange(3), 4, layout="halves"), wanted, rtol=0, atol=1e-7)


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("pos", [7, 1023, 1024, 99_991, 10_000_019])
def test_far_positions_keep_their_phase(layout: str, pos: int) -> None:
    d_model = 26
    got = SinusoidalPositions(d_model, layout=layout)(1, torch.tensor([[pos]]))[0, 0]
    for i in range(d_model // 2):
        angle = pos / 10000 ** (2 * i / d_model)  # Python's floats have 64 bits
        places = (i, d_model // 2 + i) if layout == "halves" else (2 * i, 2 * i + 1)
        assert got[places[0]].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert got[places[1]].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_any_length_whatever_the_table() -> None:
    small, large = SinusoidalPositions(6, table_size=4), SinusoidalPositions(6, table_size=64)
    for n in (1, 4, 5, 64, 100):
        assert small(n).shape == (n, 6)
        assert torch.equal(small(n), large(n))


def test_given_positions_of_any_shape() -> None:
    module, positions = SinusoidalPositions(6, table_size=8), torch.tensor([[0, 5, 2], [90, 1, 1]])
    assert_close(module(3, positions), module(91)[positions])


def test_a_negative_position_is_none() -> None:
    module = SinusoidalPositions(6, offset=2)
    assert_close(module(1, torch.tensor([[3, -1]])), torch.stack([module(4)[3], torch.zeros(6)])[None])


def test_the_table_is_not_saved() -> None:
    assert SinusoidalPositions(6).state_dict() == {}


def test_the_table_follows_the_dtype() -> None:
    module = SinusoidalPositions(6, table_size=4).bfloat16()
    dtypes = {module(2).dtype, module(9).dtype, module(1, torch.tensor([3])).dtype}
    assert dtypes == {torch.bfloat16}


@pytest.mark.parametrize("layout", ["interleaved", "halves", "halves_inclusive"])
def test_an_odd_width_lacks_its_last_cosine(layout: str) -> None:
    positions = torch.arange(9)
    for width in (1, 3, 7):
        odd = sinusoids(positions, width, layout=layout)
        assert odd.shape == (9, width)
        if layout == "halves_inclusive":  # whose last frequency is that of the even width, and has nothing
            wanted = torch.cat([sinusoids(positions, width - 1, layout=layout), torch.zeros(9, 1)], 1)
        else:
            angles = positions[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
            waves = [angles.sin(), angles.cos()]
            wanted = torch.stack(waves, -1).flatten(1) if layout == "interleaved" else torch.cat(waves, 1)
            wanted = wanted[:, :width]
        assert_close(odd, wanted)


def test_what_sinusoids_refuse() -> None:
    with pytest.raises(ValueError, match="'thirds'"):
        sinusoids(torch.arange(3), 4, layout="thirds")


def test_learned_positions_are_rows_with_gradients() -> None:
    module = LearnedPositions(5, 3)
    assert torch.equal(module(4), module.weight[:4])
    positions = torch.tensor([[4, 0], [2, 2]])
    out = module(2, positions)
    assert torch.equal(out, module.weight[positions])
    out.sum().backward()
    assert module.weight.grad is not None
    assert module.weight.grad[:, 0].tolist() == [1, 0, 2, 0, 1]


def test_learned_positions_end() -> None:
    module = LearnedPositions(5, 3)
    assert module(5).shape == (5, 3)
    with pytest.raises(ValueError, match="6 tokens are more than max_seq_len 5"):
        module(6)
    with pytest.raises(ValueError, match="position 5, from 0, is past max_seq_len 5"):
        module(1, torch.tensor([0, 5]))


def test_halves_inclusive_ends_at_the_slowest_wave() -> None:
    """d_model 6: the frequencies are 1, 10000^(-1/2) and 10000^-1."""
    got = sinusoids(torch.tensor([3]), 6, layout="halves_inclusive")[0].tolist()
    angles = [3.0, 0.03, 0.0003]
    assert got == pytest.approx([*map(math.sin, angles), *map(math.cos, angles)], abs=1e-7)


def test_an_offset_moves_the_first_place() -> None:
    moved, plain = SinusoidalPositions(6, offset=2, table_size=4), SinusoidalPositions(6, table_size=9)
    learned = LearnedPositions(5, 6, offset=2)
    assert learned.weight.shape == (7, 6)
    for n in (3, 7):  # within the table and beyond it
        assert torch.equal(moved(n), plain(n + 2)[2:])
    assert torch.equal(moved(1, torch.tensor([4])), plain(7)[6:])
    assert torch.equal(learned(5), learned.weight[2:])
    assert torch.equal(learned(1, torch.tensor([4])), learned.weight[6:])
    with pytest.raises(ValueError, match="6 tokens are more than max_seq_len 5"):
        learned(6)
