"""Whole models: second derivatives against differences of first ones, gradients of each example, traces."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jvp, vmap
from torch.testing import assert_close

from tests.models.helpers import GPT_VARIANTS, VARIANTS, real, small_gpt, small_model, tokens
from transformer_zoo.inference import quantize
from transformer_zoo.models import DecoderOnly
from transformer_zoo.training.loss import flat_tokens, linear_cross_entropy

# What torch does itself while it differentiates forwards.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")
B, T = 3, 5
LENGTHS = [5, 2, 4]
Weights = dict[str, Tensor]
NAMES = [*(f"gpt {name}" for name in GPT_VARIANTS), *(f"translation {name}" for name in VARIANTS)]


def build(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A model in float64 and what it is called with; some of it is padding."""
    family, variant = name.split(" ", 1)
    if family == "gpt":
        return small_gpt(**GPT_VARIANTS[variant]).double(), (tokens(B, T), real(LENGTHS))
    given = tokens(B, T + 1), tokens(B, T), real([4, 6, 1]), real(LENGTHS)
    return small_model(**VARIANTS[variant]).double(), given


def loss_of(model: nn.Module, weights: Weights, given: tuple[Tensor, ...]) -> Tensor:
    logits = functional_call(model, weights, given)
    return (logits.log_softmax(-1)[..., 3] * given[-1]).square().sum()


def leaves(model: nn.Module) -> Weights:
    return {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}


def gradient(loss: Callable[[Weights], Tensor], weights: Weights, **options: bool) -> list[Tensor]:
    found = torch.autograd.grad(loss(weights), [*weights.values()], materialize_grads=True, **options)
    return [*found]


def product_with_hessian(loss: Callable[[Weights], Tensor], weights: Weights, along: list[Tensor]) -> list[Tensor]:
    first = torch.autograd.grad(loss(weights), [*weights.values()], create_graph=True, materialize_grads=True)
    second = torch.autograd.grad(first, [*weights.values()], along, materialize_grads=True)
    return [*second]


def difference(loss: Callable[[Weights], Tensor], weights: Weights, along: list[Tensor]) -> list[Tensor]:
    """The same from first derivatives alone."""
    step = 1e-6
    moved = [
        {n: (w + s * a).detach().requires_grad_() for (n, w), a in zip(weights.items(), along, strict=True)}
        for s in (step, -step)
    ]
    ahead, behind = (gradient(loss, one) for one in moved)
    return [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]


def directions(weights: Weights) -> list[Tensor]:
    return [torch.randn_like(weight) for weight in weights.values()]


@pytest.mark.parametrize("name", NAMES)
def test_a_product_with_the_hessian(name: str) -> None:
    model, given = build(name)
    weights = leaves(model)
    along = directions(weights)
    loss = lambda weights: loss_of(model, weights, given)  # noqa: E731
    got = product_with_hessian(loss, weights, along)
    assert_close(got, difference(loss, weights, along), rtol=1e-4, atol=1e-5)
    assert max(float(x.abs().max()) for x in got) > 1e-3
    tangents = dict(zip(weights, along, strict=True))
    forwards = jvp(grad(loss), ({n: w.detach() for n, w in weights.items()},), (tangents,))[1]
    assert_close([*forwards.values()], got, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_each_example(name: str) -> None:
    model, given = build(name)
    weights = {n: w.detach() for n, w in leaves(model).items()}

    def one(weights: Weights, *row: Tensor) -> Tensor:
        return loss_of(model, weights, tuple(x[None] for x in row))

    got = vmap(grad(one), (None, *[0] * len(given)))(weights, *given)
    wanted = [grad(one)(weights, *row) for row in zip(*given, strict=True)]
    for n, found in got.items():
        assert_close(found, torch.stack([each[n] for each in wanted]), rtol=1e-6, atol=1e-9)
    by_hand = torch.autograd.grad(loss_of(model, own := leaves(model), given), [*own.values()], materialize_grads=True)
    assert_close([found.sum(0) for found in got.values()], [*by_hand], rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit")
@pytest.mark.parametrize("name", NAMES)
def test_a_trace_is_the_model(name: str) -> None:
    model, given = build(name)
    traced = torch.jit.trace(model, given)
    empty = tuple(x if x.dtype != torch.bool else x & torch.tensor([[True], [False], [True]]) for x in given)
    other = tuple(x.flip(0).repeat(2, 1) for x in given)
    for inputs in (given, empty, other):
        assert_close(traced(*inputs), model(*inputs))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_whole_training_loss(recompute: bool, smoothing: float) -> None:
    """With the loss that never holds all logits, and layers that are computed again."""
    model = small_gpt(**GPT_VARIANTS["grouped"], dropout=0.0, attention_dropout=0.0).double().train()
    assert isinstance(model, DecoderOnly)
    model.decoder.recompute = recompute
    ids, mask = tokens(B, T), real(LENGTHS)

    def loss() -> Tensor:
        hidden, targets = flat_tokens(model.hidden(ids, mask), ids, mask)
        return linear_cross_entropy(hidden, model.head_weight, targets, label_smoothing=smoothing)[0]

    weights = [*model.parameters()]
    along = [torch.randn_like(weight) for weight in weights]
    first = torch.autograd.grad(loss(), weights, create_graph=True)
    got = torch.autograd.grad(first, weights, along)
    moved = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            torch._foreach_add_(weights, along, alpha=step)
        moved.append(torch.autograd.grad(loss(), weights))
    wanted = [(ahead - behind) / 2e-6 for ahead, behind in zip(*moved, strict=True)]
    assert_close([*got], wanted, rtol=1e-4, atol=1e-5)


def test_a_quantized_model_refuses_gradients() -> None:
    model = small_gpt(d_model=32, n_heads=4, d_ff=64)
    rounded, ids = quantize(model), tokens(B, T)
    out = rounded(ids)
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        out.sum().backward()
    assert all(weight.grad is None for weight in model.parameters())
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        hessian(lambda w: functional_call(rounded, {"embedding.weight": w}, (ids,)).sum())(model.embedding.weight)
