"""What is differentiated by hand has the right gradient, with respect to everything, in every layout of memory."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F
from torch.testing import assert_close

from transformer_zoo.blocks import FeedForward, RMSNorm, RotaryPositions
from transformer_zoo.kernels import rotation as kernel
from transformer_zoo.kernels.norm import rms_norm

B, H, T, DH = 2, 3, 5, 6


def heads() -> Tensor:
    """(B, H, T, Dh), as attention has it: a view of (B, T, H, Dh)."""
    return torch.randn(B, T, H, DH, dtype=torch.float64).transpose(1, 2).requires_grad_()


def test_rms_norm() -> None:
    x, weight = heads(), torch.randn(DH, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, w: rms_norm(x, w, 0.1), (x, weight))
    assert_close(rms_norm(x, weight, 1e-3), F.rms_norm(x, weight.shape, weight, 1e-3))


def test_rms_norm_of_one_row_and_of_a_zero() -> None:
    norm = RMSNorm(DH).double()
    assert gradcheck(norm, (torch.randn(DH, dtype=torch.float64, requires_grad=True),))
    zero = torch.zeros(DH, dtype=torch.float64, requires_grad=True)
    norm(zero).sum().backward()
    assert zero.grad is not None
    assert zero.grad.isfinite().all()


@pytest.mark.parametrize("dim", [DH, 4])
@pytest.mark.parametrize("layout", ["halves", "interleaved"])
def test_rotation(layout: str, dim: int) -> None:
    rotation = RotaryPositions(DH, dim=dim, layout=layout).double()(3, 3 + T)
    x = heads()
    assert gradcheck(rotation.apply, (x,))
    assert_close(rotation.apply(x), kernel.formula(x, rotation.cos, rotation.sin, layout))


def test_squared_relu() -> None:
    ffn = FeedForward(DH, 7, activation="relu_squared").double()
    assert gradcheck(ffn, (torch.randn(T, DH, dtype=torch.float64, requires_grad=True),))
    x = torch.tensor([-2.0, 0.0, 3.0])
    assert ffn.activation(x).tolist() == [0, 0, 9]
