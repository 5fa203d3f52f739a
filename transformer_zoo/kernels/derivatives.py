"""What a faster way to compute a formula owes those who differentiate otherwise than a training step does.

A training step takes first derivatives, backwards, once. For that the zoo has gradients written by hand, and kernels of
torch that know no other. Everything else is the formula's: where it is known beforehand that more will be asked for,
the formula itself is computed (`is_plain`); and a second derivative, of which a forward pass cannot know, is found
through the formula's first (`differentiate`), which costs no step anything.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

# Private to torch: where they are gone, its own errors say what cannot be differentiated.
_in_torch_func: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_is_batched: Callable[[Tensor], bool] = getattr(torch._C._functorch, "is_legacy_batchedtensor", lambda x: False)

Formula = Callable[..., Tensor]
_formulas_alone = False
is_traced: Callable[[], bool] = torch.jit.is_tracing  # type: ignore[attr-defined]
"""Whether `torch.jit.trace` looks on."""


@contextmanager
def plain() -> Iterator[None]:
    """Within it every kernel computes its formula, the first function of its file: whole models do, in this process.
    >>> model, ids = tz.create_model("gpt-nano").eval(), torch.tensor([[5, 7, 7]])
    >>> with plain(): logits = model(ids)
    >>> torch.allclose(logits, model(ids), atol=1e-5)
    True
    """
    global _formulas_alone
    before, _formulas_alone = _formulas_alone, True
    try:
        yield
    finally:
        _formulas_alone = before


def is_transformed() -> bool:
    """Whether `torch.func` (vmap, grad, jvp, ...) or forward mode follows each operation, here and now."""
    return _in_torch_func() or getattr(forward_ad, "_current_level", -1) >= 0


def is_plain() -> bool:
    """Whether a formula is to be computed as it is written, and no number may be looked at: in `plain`, and where a
    compiler, `torch.func`, forward mode or `torch.jit.trace` follows each operation.
    """
    return _formulas_alone or torch.compiler.is_compiling() or is_transformed() or is_traced()


def is_more_asked(grad: Tensor) -> bool:
    """In a backward pass, given an output's gradient: whether it is to give more than one first derivative."""
    return torch.is_grad_enabled() or is_transformed() or _is_batched(grad)


def differentiate(
    formula: Formula, inputs: Sequence[Tensor | None], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """The gradients of formula(*inputs) that are needed, given its output's, as functions that have gradients too.

    For the `backward` of a `torch.autograd.Function`, whose saved tensors know what they were computed from.
    """
    again = torch.is_grad_enabled()
    kind = grad.device.type
    with torch.enable_grad(), torch.autocast(kind, enabled=False):
        # Of views, or an input that was computed from another would give its gradient to that one too.
        own = [x.view_as(x) if x is not None and need else x for x, need in zip(inputs, needed, strict=True)]
        wanted = [x for x, need in zip(own, needed, strict=True) if x is not None and need]
        out = formula(*own)
        found = iter(torch.autograd.grad(out, wanted, grad.to(out.dtype), create_graph=again))
    return [next(found) if x is not None and need else None for x, need in zip(own, needed, strict=True)]


def differentiable(out: Tensor, formula: Formula, *inputs: Tensor | None) -> Tensor:
    """out, which is formula(*inputs) by a kernel of torch that has a gradient, but no second one: with both.

    The formula is computed when a second derivative is asked for, and not before.
    """
    if not torch.is_grad_enabled() or is_plain():
        return out
    both: Tensor = _Differentiable.apply(formula, out, *inputs)  # type: ignore[no-untyped-call]
    return both


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, formula: Formula, out: Tensor, *inputs: Tensor | None) -> Tensor:
        ctx.formula = formula
        ctx.save_for_backward(*inputs)
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[2:]
        if is_more_asked(grads[0]):
            return None, None, *differentiate(ctx.formula, ctx.saved_tensors, needed, grads[0])
        return None, grads[0], *[None] * len(needed)


def without_gradient(compute: Callable[[Tensor], Tensor], x: Tensor, what: str) -> Tensor:
    """compute(x) of what is for inference alone: a gradient through it is refused, not lost in silence.

    Raises:
        RuntimeError: when a gradient is asked for; under `torch.func` and in forward mode, at once.
    """
    if is_transformed():
        raise RuntimeError(_NO_GRADIENT.format(what))
    if not x.requires_grad or not torch.is_grad_enabled() or torch.compiler.is_compiling() or is_traced():
        return compute(x)
    out: Tensor = _WithoutGradient.apply(compute, x, what)  # type: ignore[no-untyped-call]
    return out


class _WithoutGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Callable[[Tensor], Tensor], x: Tensor, what: str) -> Tensor:
        ctx.what = what
        return compute(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None]:
        raise RuntimeError(_NO_GRADIENT.format(ctx.what))


_NO_GRADIENT = "{} cannot be differentiated or transformed by torch.func: do that with the model it was made from"
