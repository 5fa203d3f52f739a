"""Norms against torch's and against float64 formulas."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from transformer_zoo.blocks import LayerNorm, RMSNorm
from transformer_zoo.blocks.norm import HeadNorms, NormOfHeads


def randomized(module: nn.Module) -> nn.Module:
    for weight in module.parameters():
        nn.init.normal_(weight)
    return module


def layer_norm(x: Tensor, module: nn.Module, eps: float) -> Tensor:
    x, bias = x.double(), module.bias
    centred = x - x.mean(-1, keepdim=True)
    normal = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return normal * module.weight.double() + (0 if bias is None else bias.double())


def rms_norm(x: Tensor, module: nn.Module, eps: float) -> Tensor:
    x = x.double()
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * module.weight.double()


@pytest.mark.parametrize("eps", [1e-5, 0.3])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(eps: float, bias: bool) -> None:
    ours = randomized(LayerNorm(7, eps=eps, bias=bias))
    theirs = nn.LayerNorm(7, eps=eps, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 7) * 2 + 1
    assert torch.equal(ours(x), theirs(x))
    assert_close(ours(x).double(), layer_norm(x, ours, eps), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("eps", [1e-6, 0.3])
def test_rms_norm(eps: float) -> None:
    ours = randomized(RMSNorm(7, eps=eps))
    theirs = nn.RMSNorm(7, eps=eps)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 7) * 2 + 1
    assert_close(ours(x), theirs(x))
    assert_close(ours(x).double(), rms_norm(x, ours, eps), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_gradients_are_those_of_the_formula(kind: type[LayerNorm | RMSNorm]) -> None:
    module = randomized(kind(5, eps=1e-3)).double()
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    wanted = (layer_norm if kind is LayerNorm else rms_norm)(x, module, 1e-3)
    got, inputs = module(x), [x, *module.parameters()]
    upstream = torch.randn_like(got)
    assert_close(torch.autograd.grad(got, inputs, upstream), torch.autograd.grad(wanted, inputs, upstream))


@pytest.mark.parametrize("grad", [False, True])
def test_an_rms_norm_of_16_bits_by_a_weight_of_32(grad: bool) -> None:
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # torch says but once that its kernel cannot take them
    try:
        norm = randomized(RMSNorm(11))
        x = torch.randn(5, 11).bfloat16().requires_grad_()
        with torch.set_grad_enabled(grad):
            out = norm(x)
    finally:
        torch.set_warn_always(always)
    assert out.dtype == torch.bfloat16
    assert_close(out, rms_norm(x, norm, 1e-6).bfloat16())
    if grad:
        out.sum().backward()
        assert x.grad is not None
        assert x.grad.dtype == torch.bfloat16


def test_they_start_as_the_plain_norm() -> None:
    x = torch.randn(4, 64)
    assert_close(LayerNorm(64)(x).mean(-1), torch.zeros(4), rtol=0, atol=1e-6)
    assert_close(LayerNorm(64)(x).square().mean(-1), torch.ones(4), rtol=1e-4, atol=0)
    assert_close(RMSNorm(64)(x).square().mean(-1), torch.ones(4), rtol=1e-4, atol=0)


def test_an_rms_norm_by_one_plus_its_weight() -> None:
    """It starts as one without a weight; in bfloat16 a small weight still counts."""
    norm, x = RMSNorm(7, unit_offset=True), torch.randn(3, 7)
    assert_close(norm(x), RMSNorm(7)(x))
    nn.init.normal_(norm.weight, std=0.001)
    plain = RMSNorm(7)
    plain.weight.data = 1 + norm.weight.data
    assert_close(norm(x), plain(x))
    narrow, weight = norm.bfloat16(), norm.weight.double()
    wanted = x.bfloat16().double()
    wanted = wanted / (wanted.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + weight)
    assert_close(narrow(x.bfloat16()), wanted.bfloat16(), rtol=0, atol=0)


def test_a_layer_norm_by_one_plus_its_weight() -> None:
    """It starts as the plain one; in bfloat16 a small weight still counts."""
    norm, plain, x = LayerNorm(7, unit_offset=True), nn.LayerNorm(7), torch.randn(3, 7)
    assert not norm.weight.any()
    assert_close(norm(x), plain(x))
    nn.init.normal_(norm.weight, std=0.001)
    nn.init.normal_(norm.bias)
    plain.weight.data, plain.bias.data = 1 + norm.weight.data, norm.bias.data
    assert_close(norm(x), plain(x))
    narrow, weight, bias = norm.bfloat16(), norm.weight.double(), norm.bias.double()
    wanted = nn.functional.layer_norm(x.bfloat16().double(), (7,), 1 + weight, bias)
    assert_close(narrow(x.bfloat16()), wanted.bfloat16(), rtol=0, atol=0)
    with pytest.raises(ValueError, match="unit_offset is for a weight"):
        LayerNorm(7, affine=False, unit_offset=True)


def test_a_layer_norm_without_weights() -> None:
    norm, x = LayerNorm(7, affine=False), torch.randn(3, 7)
    assert not list(norm.parameters())
    assert_close(norm(x), nn.LayerNorm(7, elementwise_affine=False)(x))


def test_each_head_has_a_norm_of_its_own() -> None:
    norms, x = HeadNorms(LayerNorm(5), 3), torch.randn(2, 7, 3, 5)
    randomized(norms)
    wanted = torch.stack([norm(x[:, :, i]) for i, norm in enumerate(norms.norms)], 2)
    assert_close(norms(x), wanted)


def test_a_norm_over_all_heads() -> None:
    norm, x = NormOfHeads(RMSNorm(15), 3), torch.randn(2, 7, 3, 5)
    randomized(norm)
    assert_close(norm(x), norm.norm(x.reshape(2, 7, 15)).view(2, 7, 3, 5))
