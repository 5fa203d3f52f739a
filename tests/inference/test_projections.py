"""Projections from weights in 8 bits: nearly the linear's, or its largest output exactly."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from transformer_zoo.blocks import Linear
from transformer_zoo.inference.projections import Int8Linear, PackedLinear, ScreenedLinear
from transformer_zoo.kernels.int8 import has_int8


def rounded_from(linear: nn.Linear) -> Int8Linear:
    return Int8Linear(linear.weight, linear.bias)


@pytest.mark.parametrize("kind", [PackedLinear, Int8Linear, ScreenedLinear])
@pytest.mark.parametrize("weight", [torch.ones(4, 4).half(), torch.ones(4), torch.ones(4, 4, device="meta")])
def test_other_weights_are_refused(kind: type[nn.Module], weight: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="float32 on a CPU"):
        kind(weight)


@pytest.mark.parametrize(("d", "e"), [(32, 7), (64, 131), (13, 5), (31, 17), (1024, 2053)])
@pytest.mark.parametrize("shape", [(), (1, 1), (3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_eight_bits_are_nearly_a_linear(d: int, e: int, shape: tuple[int, ...], bias: bool) -> None:
    linear = Linear(d, e, bias=bias)
    x = torch.randn(*shape, d)
    wanted, got = linear(x), rounded_from(linear)(x)
    assert got.shape == wanted.shape
    assert got.dtype == torch.float32
    assert (got - wanted).norm() < 0.03 * wanted.norm()


@pytest.mark.parametrize("d", [32, 13])
def test_eight_bits_of_nothing_are_nothing(d: int) -> None:
    linear = Linear(d, 5, bias=False)
    with torch.no_grad():
        linear.weight[3] = 0
    rounded = rounded_from(linear)
    assert torch.equal(rounded(torch.zeros(2, d)), torch.zeros(2, 5))
    assert not rounded(torch.randn(2, d))[:, 3].any()


def screened(linear: Linear) -> ScreenedLinear:
    if not has_int8():
        pytest.skip("needs a CPU with instructions for products of 8 bits")
    return ScreenedLinear(linear.weight, linear.bias)


def assert_largest_is_exact(linear: Linear, x: torch.Tensor) -> None:
    wanted, got = linear(x), screened(linear)(x)
    assert got.shape == wanted.shape
    assert_close(got.amax(-1), wanted.amax(-1))
    assert_close(wanted.gather(-1, got.argmax(-1, keepdim=True)), wanted.amax(-1, keepdim=True))


@pytest.mark.parametrize(("d", "e"), [(32, 7), (13, 5), (31, 1009), (257, 5003)])
@pytest.mark.parametrize("shape", [(), (1, 1), (3, 5), (5, 13)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_largest_of_screened_outputs_is_exact(d: int, e: int, shape: tuple[int, ...], bias: bool) -> None:
    linear = Linear(d, e, bias=bias)
    assert_largest_is_exact(linear, torch.randn(*shape, d))
    linear.bias = nn.Parameter(torch.randn(e))
    assert_largest_is_exact(linear, torch.randn(*shape, d))
    assert_close(screened(linear)(torch.randn(*shape, d)).isfinite().all().item(), True)


@torch.no_grad()
def test_of_outputs_that_rounding_confuses_the_largest_is_found() -> None:
    """Rows that differ by less than a step of 8 bits, inputs with a coordinate that dwarfs the others."""
    linear = Linear(257, 1009, bias=False)
    linear.weight[500:] = linear.weight[500] + 1e-4 * torch.randn(509, 257)
    x = torch.randn(7, 257) + linear.weight[500] * 40
    x[::2, 11] *= 100
    rounded = rounded_from(linear)(x).argmax(-1)
    assert not torch.equal(rounded, linear(x).argmax(-1))
    assert_largest_is_exact(linear, x)


@torch.no_grad()
def test_where_few_inputs_dwarf_the_others_the_weight_is_read_finer() -> None:
    linear = Linear(257, 5003, bias=False)
    torch.nn.init.normal_(linear.weight, std=0.1)
    linear.weight[:, [11, 138]] = torch.tensor([0.9, -0.7]) + 0.01 * torch.randn(5003, 2)
    x = torch.randn(7, 257)
    x[:, [11, 138]] += torch.tensor([90.0, -50.0])
    module = screened(linear)
    asked: list[float] = []
    look = module._sharpen

    def watched(*given: torch.Tensor | None) -> bool:
        asked.append(float(given[-1].max()))
        return look(*given)

    module._sharpen = watched
    out = module(x)
    assert len(asked) == 2
    assert asked[1] < asked[0] / 5
    assert torch.equal(out.argmax(-1), linear(x).argmax(-1))
    assert_close(out.amax(-1), linear(x).amax(-1))


@torch.no_grad()
def test_screening_meets_zeros_and_numbers_that_are_none() -> None:
    linear = Linear(31, 70_001, bias=False)  # of zeros all outputs are the largest: too many to look at each
    x = torch.randn(3, 31)
    x[1] = 0
    assert_largest_is_exact(linear, x)
    assert torch.equal(screened(linear)(x)[1], torch.zeros(70_001))
    assert screened(linear)(x[:0]).shape == (0, 70_001)
    x[2, 7] = torch.nan
    assert screened(linear)(x)[2].isnan().any()
    linear.weight[123, 7] = torch.nan
    out = screened(linear)(torch.randn(3, 31))
    assert out[:, 123].isnan().all()
    assert out.argmax(-1).tolist() == [123] * 3
