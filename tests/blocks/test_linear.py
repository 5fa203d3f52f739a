"""A linear projection is the same number for every number of rows, whichever kernel computes it."""

import sys

import pytest
import torch
from torch.testing import assert_close

from transformer_zoo.blocks import Int8Linear, Linear, ScreenedLinear, linear
from transformer_zoo.blocks.linear import in_autocast_dtype
from transformer_zoo.kernels import cpu
from transformer_zoo.kernels.cpu import cpu_has_int8

linear_module = sys.modules["transformer_zoo.blocks.linear"]  # the package's `linear` is the function


@pytest.mark.parametrize("shape", [(1,), (3, 1), (4, 1), (8, 1), (3, 5), (16,), (64,), (5, 13)])
@pytest.mark.parametrize("bias", [False, True])
def test_it_is_the_product_in_float64(shape: tuple[int, ...], bias: bool) -> None:
    module = Linear(1031, 1033, bias=bias)  # above the bound of the second kernel
    x = torch.randn(*shape, 1031)
    wanted = x.double() @ module.weight.double().T + (module.bias.double() if bias else 0)
    for context in (torch.inference_mode(), torch.no_grad(), torch.enable_grad()):
        with context:
            assert_close(module(x), wanted.float(), rtol=1e-4, atol=1e-5)


def test_few_rows_have_gradients_and_autocast() -> None:
    module, x = Linear(1031, 1033), torch.randn(8, 1031, requires_grad=True)
    module(x).sum().backward()
    assert_close(x.grad, module.weight.sum(0).expand(8, -1), rtol=1e-4, atol=1e-4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert module(x).dtype == torch.bfloat16
    with torch.no_grad():
        assert linear(x.bfloat16(), module.weight.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("instructions", [False, True])
def test_bfloat16_is_the_same_with_and_without_its_instructions(
    instructions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs rounded, added up in float32, the sum rounded: within one rounding of the product in float64."""
    monkeypatch.setattr(linear_module, "float32_is_as_fast", lambda n: not instructions)
    module, x = Linear(67, 31), torch.randn(5, 7, 67, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x)
    assert y.dtype == torch.bfloat16
    rounded = [t.detach().bfloat16().double() for t in (x, module.weight, module.bias)]
    wanted = rounded[0] @ rounded[1].T + rounded[2]
    assert_close(y.double(), wanted, rtol=2**-7, atol=1e-3)
    y.sum().backward()
    assert x.grad is not None
    assert module.weight.grad is not None
    assert x.grad.dtype == module.weight.grad.dtype == torch.float32
    assert_close(x.grad.double(), rounded[1].sum(0).expand(5, 7, -1), rtol=2**-7, atol=1e-2)
    assert_close(module.weight.grad.double(), rounded[0].sum((0, 1)).expand(31, -1), rtol=2**-7, atol=1e-2)


@pytest.fixture
def _halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product in bfloat16 is one that is taken in halves."""
    monkeypatch.setattr(cpu, "_SMALL_WEIGHT", 0)
    monkeypatch.setattr(linear_module, "_leaves_one_idle", lambda *shape: True)
    monkeypatch.setattr(linear_module, "_ROWS_FOR_ONE", range(1, 100))


@pytest.mark.usefixtures("_halved")
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7,), (5, 3), (1, 1)])
def test_halves_of_a_bfloat16_product_are_the_whole(
    shape: tuple[int, ...], bias: bool, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "cpu_has_bfloat16", lambda: True)
    module, x, upstream = Linear(67, 31, bias=bias), torch.randn(*shape, 67), torch.randn(*shape, 31).bfloat16()
    if not autocast:
        module, x = module.bfloat16(), x.bfloat16()
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = module(x)
    inputs = [x, *module.parameters()]
    exact = [t.detach().bfloat16().double().requires_grad_() for t in inputs]
    wanted = torch.nn.functional.linear(*exact)
    assert y.dtype == torch.bfloat16
    assert_close(y.double(), wanted, rtol=2**-7, atol=1e-2)
    got = torch.autograd.grad(y, inputs, upstream)
    assert [g.dtype for g in got] == [t.dtype for t in inputs]
    for ours, theirs in zip(got, torch.autograd.grad(wanted, exact, upstream.double()), strict=True):
        assert_close(ours.double(), theirs, rtol=2**-7, atol=5e-2)


@pytest.mark.usefixtures("_halved")
def test_float32_is_never_halved() -> None:
    module, x = Linear(67, 31), torch.randn(5, 67)
    assert torch.equal(module(x), torch.nn.functional.linear(x, module.weight, module.bias))


@pytest.mark.usefixtures("_halved")
def test_halves_of_a_frozen_weight_have_no_gradient() -> None:
    module, x = Linear(67, 31).bfloat16().requires_grad_(False), torch.randn(5, 67).bfloat16().requires_grad_()
    y = module(x)
    y.square().sum().backward()
    assert module.weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_several_products_round_one_input_once(dtype: torch.dtype) -> None:
    x = torch.randn(3, 5, dtype=dtype)
    for one in (x, x.to("meta")):
        assert in_autocast_dtype(one) is one
    with torch.autocast("cpu", torch.bfloat16):
        once = in_autocast_dtype(x)
        assert torch.equal(linear(once, x), linear(x, x))
    assert once.dtype == (torch.float64 if dtype == torch.float64 else torch.bfloat16)


@pytest.mark.parametrize(("d", "e"), [(32, 7), (64, 131), (13, 5), (31, 17), (1024, 2053)])
@pytest.mark.parametrize("shape", [(), (1, 1), (3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_eight_bits_are_nearly_a_linear(d: int, e: int, shape: tuple[int, ...], bias: bool) -> None:
    linear = Linear(d, e, bias=bias)
    x = torch.randn(*shape, d)
    wanted, got = linear(x), Int8Linear(linear)(x)
    assert got.shape == wanted.shape
    assert got.dtype == torch.float32
    assert (got - wanted).norm() < 0.03 * wanted.norm()


@pytest.mark.parametrize("d", [32, 13])
def test_eight_bits_of_nothing_are_nothing(d: int) -> None:
    linear = Linear(d, 5, bias=False)
    with torch.no_grad():
        linear.weight[3] = 0
    rounded = Int8Linear(linear)
    assert torch.equal(rounded(torch.zeros(2, d)), torch.zeros(2, 5))
    assert not rounded(torch.randn(2, d))[:, 3].any()


def screened(linear: Linear) -> ScreenedLinear:
    if not cpu_has_int8():
        pytest.skip("needs a CPU with instructions for products of 8 bits")
    return ScreenedLinear(linear)


def assert_largest_is_exact(linear: Linear, x: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    wanted, got = linear(x, bias), screened(linear)(x, bias)
    assert got.shape == wanted.shape
    assert_close(got.amax(-1), wanted.amax(-1))
    assert_close(wanted.gather(-1, got.argmax(-1, keepdim=True)), wanted.amax(-1, keepdim=True))


@pytest.mark.parametrize(("d", "e"), [(32, 7), (13, 5), (31, 1009), (257, 5003)])
@pytest.mark.parametrize("shape", [(), (1, 1), (3, 5), (5, 13)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_largest_of_screened_outputs_is_exact(d: int, e: int, shape: tuple[int, ...], bias: bool) -> None:
    linear = Linear(d, e, bias=bias)
    assert_largest_is_exact(linear, torch.randn(*shape, d))
    assert_largest_is_exact(linear, torch.randn(*shape, d), torch.randn(e))
    assert_close(screened(linear)(torch.randn(*shape, d)).isfinite().all().item(), True)


@torch.no_grad()
def test_of_outputs_that_rounding_confuses_the_largest_is_found() -> None:
    """Rows that differ by less than a step of 8 bits, inputs with a coordinate that dwarfs the others."""
    linear = Linear(257, 1009, bias=False)
    linear.weight[500:] = linear.weight[500] + 1e-4 * torch.randn(509, 257)
    x = torch.randn(7, 257) + linear.weight[500] * 40
    x[::2, 11] *= 100
    rounded = Int8Linear(linear)(x).argmax(-1)
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
