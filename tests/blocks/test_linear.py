"""A linear projection is the same number for every number of rows, whichever kernel computes it."""

import pytest
import torch
from torch.testing import assert_close

from transformer_zoo.blocks import Linear, linear


@pytest.mark.parametrize("shape", [(1,), (3, 1), (4, 1), (8, 1), (3, 5), (16,)])
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
