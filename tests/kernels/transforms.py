"""Ways to differentiate a function, each by name: what it gives is compared with what it gives for another function."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, functional
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.utils.checkpoint import checkpoint

Function = Callable[..., Tensor]
Inputs = tuple[Tensor, ...]

# What some of them make torch itself say.
WARNINGS = (
    "ignore:`torch.jit",
    "ignore:Attempted to insert a get_attr",
    "ignore:Anomaly Detection has been enabled",
)


def loss_of(f: Function, inputs: Inputs) -> Tensor:
    """A number whose derivatives of every order depend on all of f."""
    out = f(*inputs)
    return (out * torch.linspace(0.5, 1.5, out.numel(), dtype=out.dtype).view_as(out)).sin().sum()


def leaves(inputs: Inputs) -> Inputs:
    return tuple(x.detach().clone().requires_grad_() for x in inputs)


def along(inputs: Inputs) -> Inputs:
    return tuple(torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x) for x in inputs)


def every(inputs: Inputs) -> tuple[int, ...]:
    return tuple(range(len(inputs)))


def first_derivative(f: Function, inputs: Inputs) -> Any:
    own = leaves(inputs)
    return torch.autograd.grad(loss_of(f, own), own)


def product_with_hessian(f: Function, inputs: Inputs) -> Any:
    own = leaves(inputs)
    first = torch.autograd.grad(loss_of(f, own), own, create_graph=True)
    return torch.autograd.grad(first, own, along(inputs))


def third_derivative(f: Function, inputs: Inputs) -> Any:
    own = leaves(inputs)
    first = torch.autograd.grad(loss_of(f, own), own, create_graph=True)
    second = torch.autograd.grad(first, own, along(inputs), create_graph=True)
    return torch.autograd.grad(second, own, along(inputs))


def gradient_penalty(f: Function, inputs: Inputs) -> Any:
    own = leaves(inputs)
    value = loss_of(f, own)
    first = torch.autograd.grad(value, own[0], create_graph=True)[0]
    (0 * value + first.square().sum()).backward()
    return [x.grad for x in own]


def hessian_of_autograd(f: Function, inputs: Inputs, **options: Any) -> Any:
    return functional.hessian(lambda *x: loss_of(f, x), inputs, **options)


def gradients_at_once(f: Function, inputs: Inputs) -> Any:
    own = leaves(inputs)
    value = torch.stack([loss_of(f, own), loss_of(f, own) ** 2])
    return torch.autograd.grad(value, own, torch.eye(2, dtype=value.dtype), is_grads_batched=True)


def forward_mode(f: Function, inputs: Inputs) -> Any:
    with forward_ad.dual_level():
        out = f(*(forward_ad.make_dual(x, t) for x, t in zip(inputs, along(inputs), strict=True)))
        return forward_ad.unpack_dual(out).tangent


def forward_over_backward(f: Function, inputs: Inputs) -> Any:
    """The level is entered after the forward pass: only the backward pass has tangents."""
    own = leaves(inputs)
    value = loss_of(f, own)
    with forward_ad.dual_level():
        seed = forward_ad.make_dual(torch.ones_like(value), torch.full_like(value, 0.7))
        return [forward_ad.unpack_dual(g).tangent for g in torch.autograd.grad(value, own, seed)]


def per_sample(f: Function, inputs: Inputs) -> Any:
    rows = tuple(torch.stack([x, 2 * x, x.cos()]) for x in inputs)
    return vmap(grad(lambda *x: loss_of(f, x), argnums=every(inputs)))(*rows)


def per_first_input(f: Function, inputs: Inputs) -> Any:
    rows = torch.stack([inputs[0], 2 * inputs[0]])
    return vmap(lambda x: f(x, *inputs[1:]))(rows)


def recomputed(f: Function, inputs: Inputs) -> Any:
    return product_with_hessian(lambda *x: checkpoint(f, *x, use_reentrant=False), inputs)


def watched(f: Function, inputs: Inputs) -> Any:
    with torch.autograd.detect_anomaly(check_nan=True):
        return product_with_hessian(f, inputs)


# Name: what it makes of f(*inputs), as tensors.
TRANSFORMS: dict[str, Callable[[Function, Inputs], Any]] = {
    "grad": first_derivative,
    "hessian_product": product_with_hessian,
    "third": third_derivative,
    "penalty": gradient_penalty,
    "functional_hessian": hessian_of_autograd,
    "functional_hessian_at_once": partial(hessian_of_autograd, vectorize=True),
    "functional_hessian_forward": partial(hessian_of_autograd, vectorize=True, outer_jacobian_strategy="forward-mode"),
    "grads_at_once": gradients_at_once,
    "forward_mode": forward_mode,
    "forward_over_backward": forward_over_backward,
    "func_grad": lambda f, inputs: grad(lambda *x: loss_of(f, x), argnums=every(inputs))(*inputs),
    "func_hessian": lambda f, inputs: hessian(lambda *x: loss_of(f, x), argnums=every(inputs))(*inputs),
    "func_hessian_backwards": lambda f, inputs: jacrev(jacrev(lambda *x: loss_of(f, x)))(*inputs),
    "func_jvp": lambda f, inputs: jvp(f, inputs, along(inputs)),
    "func_vjp": lambda f, inputs: vjp(f, *inputs)[1](f(*inputs).cos()),
    "func_jvp_of_grad": lambda f, inputs: jvp(grad(lambda *x: loss_of(f, x), argnums=0), inputs, along(inputs)),
    "func_linearize": lambda f, inputs: linearize(f, *inputs)[1](*along(inputs)),
    "jacrev": lambda f, inputs: jacrev(f, argnums=every(inputs))(*inputs),
    "jacfwd": lambda f, inputs: jacfwd(f, argnums=every(inputs))(*inputs),
    "vmap": per_first_input,
    "per_sample": per_sample,
    "checkpoint": recomputed,
    "anomaly": watched,
}

EVERY = [pytest.param(name, marks=pytest.mark.slow) if name == "func_linearize" else name for name in TRANSFORMS]
