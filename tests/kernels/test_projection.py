"""A linear projection is the same number for every number of rows, whichever kernel computes it."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from transformer_zoo.blocks import Linear
from transformer_zoo.kernels import projection
from transformer_zoo.kernels.projection import in_autocast_dtype, linear


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
    monkeypatch.setattr(projection, "float32_is_as_fast", lambda n: not instructions)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_several_products_round_one_input_once(dtype: torch.dtype) -> None:
    x = torch.randn(3, 5, dtype=dtype)
    for one in (x, x.to("meta")):
        assert in_autocast_dtype(one) is one
    with torch.autocast("cpu", torch.bfloat16):
        once = in_autocast_dtype(x)
        assert torch.equal(linear(once, x), linear(x, x))
    assert once.dtype == (torch.float64 if dtype == torch.float64 else torch.bfloat16)


class Doubled(torch.Tensor):
    """A weight of a type of its own, as torchao's: it says itself how it is multiplied."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.linear:
            return 2 * (args[0] @ args[1].as_subclass(torch.Tensor).T)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_weight_of_a_type_of_its_own_is_asked() -> None:
    module, x = Linear(1031, 1033, bias=False), torch.randn(8, 1031)
    with torch.no_grad():
        wanted = 2 * module(x)
        module.weight = torch.nn.Parameter(module.weight.detach().as_subclass(Doubled), requires_grad=False)
        assert_close(module(x), wanted)
