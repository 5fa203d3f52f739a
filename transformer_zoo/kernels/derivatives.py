"""What a fast way to compute a formula must do for callers who differentiate in other ways than a training step.

A training step takes first derivatives, backwards, once. The zoo has gradients written by hand for that, and kernels of
torch that have no other derivatives. Everything else uses the formula. If it is known beforehand that more will be
needed, the formula itself is computed (`is_plain`). A forward pass cannot know about a second derivative, so that is
found through the formula's first one (`differentiate`), which costs no training step anything.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

# Private to torch. If they are missing, torch's own errors say what cannot be differentiated.
_in_torch_func: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_is_batched: Callable[[Tensor], bool] = getattr(torch._C._functorch, "is_legacy_batchedtensor", lambda x: False)

Formula = Callable[..., Tensor]
_formulas_alone = False
is_traced: Callable[[], bool] = torch.jit.is_tracing  # type: ignore[attr-defined]
"""Whether `torch.jit.trace` is recording."""


@contextmanager
def plain() -> Iterator[None]:
    """Inside it, every kernel computes its formula, the first function of its file, even in whole models of this
    process.
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
    """Whether `torch.func` (vmap, grad, jvp, ...) or forward mode follows each operation at this point."""
    return _in_torch_func() or getattr(forward_ad, "_current_level", -1) >= 0


def is_plain() -> bool:
    """Whether a formula must be computed as it is written, without looking at numbers: in `plain`, and while a
    compiler, `torch.func`, forward mode or `torch.jit.trace` follows each operation.
    """
    return _formulas_alone or torch.compiler.is_compiling() or is_transformed() or is_traced()


def is_more_asked(grad: Tensor) -> bool:
    """In a backward pass, from an output's gradient: whether more than one first derivative is needed."""
    return torch.is_grad_enabled() or is_transformed() or _is_batched(grad)


def differentiate(
    formula: Formula, inputs: Sequence[Tensor | None], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """The needed gradients of formula(*inputs), from its output's gradient, as functions that have gradients too.

    For the `backward` of a `torch.autograd.Function`, whose saved tensors know their own history.
    """
    again = torch.is_grad_enabled()
    kind = grad.device.type
    with torch.enable_grad(), torch.autocast(kind, enabled=False):
        # Views are differentiated: otherwise an input that was computed from another would give its gradient to that
        # one too.
        own = [x.view_as(x) if x is not None and need else x for x, need in zip(inputs, needed, strict=True)]
        wanted = [x for x, need in zip(own, needed, strict=True) if x is not None and need]
        out = formula(*own)
        found = iter(torch.autograd.grad(out, wanted, grad.to(out.dtype), create_graph=again))
    return [next(found) if x is not None and need else None for x, need in zip(own, needed, strict=True)]


def differentiable(out: Tensor, formula: Formula, *inputs: Tensor | None) -> Tensor:
    """out, which is formula(*inputs) by a kernel of torch that has no second derivative, with both derivatives.

    The formula is computed only when a second derivative is asked for.
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
    """compute(x) for inference only: a gradient through it is refused, and not silently lost.

    Raises:
        RuntimeError: a gradient is asked for; under `torch.func` and in forward mode immediately.
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
