"""The feed-forward network against its formulas."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from transformer_zoo.blocks import FeedForward


def by_definition(activation: str, x: Tensor) -> Tensor:
    """The activations from their papers, without torch's own functions for them."""
    if activation == "relu":
        return torch.where(x > 0, x, 0)
    if activation == "gelu":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    if activation == "gelu_tanh":
        return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return x / (1 + torch.exp(-x))  # silu


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu"])
def test_formula(activation: str, gated: bool, bias: bool) -> None:
    ffn = FeedForward(5, 11, activation=activation, gated=gated, bias=bias).double()
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    weights = dict(ffn.named_parameters())

    def linear(name: str, y: Tensor) -> Tensor:
        return y @ weights[f"{name}.weight"].T + (weights[f"{name}.bias"] if bias else 0)

    inner = by_definition(activation, linear("gate_proj" if gated else "up_proj", x))
    if gated:
        inner = inner * linear("up_proj", x)
    wanted, got = linear("down_proj", inner), ffn(x)
    assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    inputs, upstream = [x, *weights.values()], torch.randn_like(got)
    assert_close(torch.autograd.grad(got, inputs, upstream), torch.autograd.grad(wanted, inputs, upstream))


def test_the_two_gelus_differ() -> None:
    exact, tanh = FeedForward(5, 11, activation="gelu"), FeedForward(5, 11, activation="gelu_tanh")
    tanh.load_state_dict(exact.state_dict())
    x = torch.randn(7, 5)
    assert 1e-6 < (exact(x) - tanh(x)).abs().max().item() < 1e-2


def test_dropout_is_inside_and_only_in_training() -> None:
    ffn, x = FeedForward(5, 400, dropout=0.5, bias=False), torch.randn(3, 5)
    inner = torch.relu(ffn.up_proj(x))
    torch.manual_seed(2)
    dropped = ffn.dropout(inner)
    torch.manual_seed(2)
    assert_close(ffn(x), ffn.down_proj(dropped))
    assert_close(ffn.eval()(x), ffn.down_proj(inner))


def test_names_of_weights() -> None:
    assert [name for name, _ in FeedForward(2, 3, bias=False).named_parameters()] == [
        "up_proj.weight",
        "down_proj.weight",
    ]
    assert {name for name, _ in FeedForward(2, 3, gated=True, bias=False).named_parameters()} == {
        "up_proj.weight",
        "gate_proj.weight",
        "down_proj.weight",
    }


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'swish'.*silu"):
        FeedForward(2, 3, activation="swish")
