"""Cross-entropy with label smoothing, from hidden states, without ever holding all logits."""

from typing import Any

import torch
from torch import Tensor

CHUNK = 256  # rows at a time: their logits stay in a CPU's cache, and are few enough for a GPU's memory


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradients are computed along with the loss, while a chunk's logits are at hand; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        smoothing: float,
        chunk: int,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor]:
        n, vocab = hidden.size(0), weight.size(0)
        need_grad = grad_enabled and any(ctx.needs_input_grad)  # the latter does not know of torch.no_grad
        loss = hidden.new_zeros((), dtype=torch.float32)
        nll = hidden.new_zeros((), dtype=torch.float32)
        grad_hidden = torch.empty_like(hidden) if need_grad else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_grad else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if need_grad and bias is not None else None
        for start in range(0, n, chunk):
            rows = slice(start, min(start + chunk, n))
            logits = (hidden[rows] @ weight.t()).float()  # (chunk, V)
            if bias is not None:
                logits += bias
            label = targets[rows, None]
            log_p = logits.log_softmax(-1)
            chunk_nll = -log_p.gather(1, label).sum()
            nll += chunk_nll
            # Smoothing gives every class, the right one too, smoothing / V of the probability (as nn.CrossEntropyLoss).
            loss += (1 - smoothing) * chunk_nll
            if smoothing:
                loss -= smoothing * log_p.mean(-1).sum()
            if grad_hidden is None or grad_weight is None:
                continue
            grad = log_p.exp_()  # the softmax
            grad.scatter_add_(1, label, grad.new_full((1, 1), smoothing - 1).expand_as(label))
            if smoothing:
                grad -= smoothing / vocab
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            grad = grad.to(hidden.dtype)
            torch.mm(grad, weight, out=grad_hidden[rows])
            if grad.dtype == torch.float32:
                grad_weight.addmm_(grad.t(), hidden[rows])
            else:
                grad_weight += grad.t() @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        scale = grads[0]
        return (
            grad_hidden * scale,
            (grad_weight * scale).to(grad_hidden.dtype),
            None,
            None if grad_bias is None else grad_bias * scale,
            None,
            None,
            None,
        )


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    label_smoothing: float = 0.0,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Sum over tokens of the cross-entropy of `hidden @ weight.T + bias`, in float32.

    Equal to `F.cross_entropy(logits, targets, reduction="sum", label_smoothing=...)`, but the logits exist `chunk` rows
    at a time. The caller drops padding first.

    Args:
        hidden: (N, D), of the dtype the products are to be taken in.
        weight: (V, D); it is brought to that dtype.
        targets: (N,) int64, each below V.
        bias: (V,).
        label_smoothing: probability spread evenly over the vocabulary (section 5.4 of "Attention Is All You Need": 0.1).

    Returns:
        The smoothed loss, in nats, and the plain negative log-likelihood, in nats, without gradient; both () float32.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        loss, nll = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden, weight.to(hidden.dtype), targets, bias, label_smoothing, chunk, torch.is_grad_enabled()
        )
    return loss, nll
