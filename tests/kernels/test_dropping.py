"""Dropout from sixteen bits an element: its rate, scale, gradient, independence and generator."""

import pytest
import torch
from torch.testing import assert_close

from transformer_zoo.blocks import Dropout
from transformer_zoo.kernels.dropping import dropout

N = 1_000_003  # not a multiple of the four draws in a word


def kept(n: int, p: float) -> torch.Tensor:
    return dropout(torch.ones(n), p) != 0


@pytest.mark.parametrize("p", [0.001, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_the_rate_is_p(p: float) -> None:
    rate = 1 - kept(N, p).double().mean().item()
    assert abs(rate - p) < 4 * (p * (1 - p) / N) ** 0.5 + 2**-17


@pytest.mark.parametrize("lane", range(4))
def test_the_rate_is_p_in_each_place_of_a_word(lane: int) -> None:
    part = kept(N, 0.1)[lane::4].double()
    assert abs(part.mean().item() - 0.9) < 4 * (0.09 / part.numel()) ** 0.5


@pytest.mark.parametrize("lag", [*range(1, 9), 64, 128, 1024])
def test_elements_are_independent(lag: int) -> None:
    """The correlation of an element with the one `lag` places on, over all and by place in the word."""
    flags = kept(N, 0.25).double() - 0.75
    products = flags[:-lag] * flags[lag:] / (0.25 * 0.75)
    assert abs(products.mean().item()) < 4.5 / products.numel() ** 0.5
    for lane in range(4):
        part = products[lane::4]
        assert abs(part.mean().item()) < 4.5 / part.numel() ** 0.5


def test_two_draws_are_independent() -> None:
    first, second = kept(N, 0.5), kept(N, 0.5)
    assert abs((first == second).double().mean().item() - 0.5) < 4 * 0.5 / N**0.5


@pytest.mark.parametrize("p", [0.1, 0.25, 0.3, 0.7])
def test_what_is_kept_is_scaled_exactly(p: float) -> None:
    x = torch.randn(1003, dtype=torch.float64)
    out = dropout(x, p)
    assert_close(out[out != 0], x[out != 0] / (1 - p), rtol=1e-15, atol=0)
    assert_close(dropout(torch.ones(50), p).max(), torch.tensor(1 / (1 - p)))


def test_the_expectation_is_the_input() -> None:
    for dtype, tolerance in (
        (torch.float32, 3e-3),
        (torch.bfloat16, 8e-3),
    ):  # 1 / (1 - p) is rounded to the dtype
        mean = dropout(torch.ones(N, dtype=dtype), 0.3).double().mean().item()
        assert abs(mean - 1) < tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 5), (3, 1, 7), (2, 2, 2, 3)])
def test_the_gradient_is_the_factor(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    out = dropout(x, 0.4)
    assert (out.shape, out.dtype) == (x.shape, dtype)
    (factor,) = torch.autograd.grad(out.sum(), x)
    assert_close(out.detach(), x.detach() * factor)
    assert set(factor.flatten().tolist()) <= {0.0, torch.tensor(1 / 0.6, dtype=dtype).item()}


def test_strided_inputs_are_dropped_by_place() -> None:
    x = torch.ones(6, 4)
    torch.manual_seed(3)
    plain = dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(torch.ones(4, 6).T, 0.5), plain)
    assert torch.equal(x, torch.ones(6, 4))


def test_no_dropout_is_the_identity_and_draws_nothing() -> None:
    x, state = torch.randn(7), torch.get_rng_state()
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_torchs_seed_and_state_cover_it() -> None:
    torch.manual_seed(11)
    first = [dropout(torch.ones(n), 0.5) for n in (5, 1, 130)]
    torch.manual_seed(11)
    assert torch.equal(dropout(torch.ones(5), 0.5), first[0])
    state = torch.get_rng_state()
    torch.rand(100)
    torch.set_rng_state(state)
    assert all(torch.equal(dropout(torch.ones(n), 0.5), wanted) for n, wanted in zip((1, 130), first[1:], strict=True))


def test_p_close_to_one_drops() -> None:
    assert kept(N, 1 - 1e-7).sum() < 60


def test_bits_are_drawn_on_the_cpu_whatever_the_default_device() -> None:
    x = torch.ones(8)
    with torch.device("meta"):
        assert dropout(x, 0.5).device.type == "cpu"


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_other_probabilities_are_refused(p: float) -> None:
    with pytest.raises(ValueError, match="from 0 up to"):
        Dropout(p)
