"""Cross-entropy and its gradients on a CPU: in place, in blocks of logits that fit into its cache."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.kernels.cpu import float32_is_as_fast

if TYPE_CHECKING:
    from transformer_zoo.kernels.cross_entropy import Gradients, Options

BLOCK_LOGITS = 1 << 19  # few enough to stay in the cache
CHUNK_ROWS = 1024  # each chunk reads and writes the weight's whole gradient once more


def rows_on_cpu(vocabulary: int) -> int:
    """Default number of tokens whose logits exist at the same time."""
    return max(BLOCK_LOGITS // vocabulary, CHUNK_ROWS)


def in_place(
    chunk: int,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    options: "Options",
    with_gradient: bool,
) -> "tuple[Tensor, Tensor, Gradients]":
    """Loss, negative log-likelihood and, if wanted, gradients, `chunk` rows at a time; the rest as for `cross_entropy`.

    With e the one-hot label, s the smoothing and V the vocabulary, the gradient of the logits is
    softmax - (1 - s) e - s / V. The last term is the same for every logit: its share of the gradients of `hidden` and
    `weight` is added once at the end, without a pass over the logits.
    """
    smoothing, softcap, vocab_size = options
    wide = torch.promote_types(hidden.dtype, torch.float32)
    n_tokens = len(weight)
    in_float32 = hidden.dtype == torch.bfloat16 and float32_is_as_fast(weight.numel())
    matrix = weight.to(hidden.dtype) if in_float32 else _in_whole_vectors(weight, hidden.dtype)  # (V', D), V' >= V
    nll = hidden.new_zeros((), dtype=wide)
    log_z = hidden.new_zeros((), dtype=wide)
    grad_hidden = torch.empty_like(hidden) if with_gradient else None
    grad_weight = torch.zeros_like(weight, dtype=wide) if with_gradient and not len(hidden) else None
    grad_bias = torch.zeros_like(bias, dtype=wide) if with_gradient and bias is not None else None
    block = max(BLOCK_LOGITS // n_tokens, 1)
    for start in range(0, len(hidden), chunk):
        labels = targets[start : start + chunk, None]
        n, rows = len(labels), _in_few_sizes(hidden[start : start + chunk], in_float32)  # (chunk', D)
        product = _wide_product(rows, matrix.t(), wide, in_float32)  # (chunk', V')
        grads = product if product.dtype == hidden.dtype else torch.empty_like(product, dtype=hidden.dtype)
        blocks = (x.split(block) for x in (product[:n, :n_tokens], grads[:n, :n_tokens], labels))
        for some, grad, label in zip(*blocks, strict=True):
            logits = some.to(wide) if bias is None else some + bias.to(wide)  # (block, V)
            losses = _differentiate(logits, label, grad if with_gradient else None, smoothing, softcap, vocab_size)
            nll += losses[0]
            log_z += losses[1]
            if grad_bias is not None:
                grad_bias += grad.sum(0, dtype=wide)
        if grad_hidden is None:
            continue
        if in_float32 or len(rows) > n:
            grad_hidden[start : start + chunk] = _wide_product(grads, matrix, wide, in_float32)[:n]
        else:
            torch.mm(grads, matrix, out=grad_hidden[start : start + chunk])
        if grad_weight is None:
            grad_weight = _wide_product(grads.t(), rows, wide, in_float32)[:n_tokens].to(wide)
        elif grads.dtype == wide:
            grad_weight.addmm_(grads.t(), rows)
        else:
            grad_weight += _wide_product(grads.t(), rows, wide, in_float32)[:n_tokens]
    gradients = grad_hidden, grad_weight, grad_bias
    if not smoothing:
        return nll.clone(), nll, gradients
    uniform = log_z - _spread(hidden, matrix[:vocab_size], bias, smoothing, gradients)
    return (1 - smoothing) * nll + smoothing * uniform, nll, gradients


def _spread(hidden: Tensor, real: Tensor, bias: Tensor | None, smoothing: float, gradients: "Gradients") -> Tensor:
    """The sum of the mean logits of all tokens, (), by products with the mean row. Gradients lose their share of it.

    Label smoothing adds the mean over the vocabulary of -log p, which is log Z minus the mean logit.
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    vocab_size, (grad_hidden, grad_weight, grad_bias) = len(real), gradients
    sum_hidden, mean_weight = hidden.sum(0, dtype=wide), real.mean(0, dtype=wide)  # (D,), (D,)
    if grad_hidden is not None:
        grad_hidden -= (smoothing * mean_weight).to(hidden.dtype)
    if grad_weight is not None:
        grad_weight[:vocab_size] -= smoothing / vocab_size * sum_hidden
    if grad_bias is not None:
        grad_bias[:vocab_size] -= smoothing / vocab_size * len(hidden)
    mean_bias = 0.0 if bias is None else bias[:vocab_size].mean(dtype=wide)
    return sum_hidden @ mean_weight + len(hidden) * mean_bias


def _differentiate(
    logits: Tensor, label: Tensor, grad: Tensor | None, smoothing: float, softcap: float | None, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """The sums of -log p of the labels (N, 1) and of log Z. The logits (N, V) are overwritten; grad becomes their
    gradient."""
    slope = None
    if softcap is not None:
        logits.mul_(1 / softcap).tanh_()
        slope = None if grad is None else 1 - logits.square()
        logits *= softcap
    if vocab_size < logits.size(1):
        logits[:, vocab_size:] = -torch.inf
    log_p = logits.log_softmax(-1)
    nll = -log_p.gather(1, label).sum()
    log_z = logits.gather(1, label).sum() + nll
    if grad is not None:
        softmax = log_p.exp_()
        softmax.scatter_add_(1, label, softmax.new_full((1, 1), smoothing - 1).expand_as(label))
        grad.copy_(softmax if slope is None else softmax.mul_(slope))
    return nll, log_z


def _wide_product(a: Tensor, b: Tensor, dtype: torch.dtype, in_float32: bool) -> Tensor:
    """a @ b, computed and kept in `dtype` if it is given, otherwise in their own types."""
    return a.to(dtype) @ b.to(dtype) if in_float32 else a @ b


def _in_whole_vectors(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight (V, D) in this dtype. For products in bfloat16, zero rows are added to complete the last vector of
    logits. Otherwise rows of logits would not begin at whole vectors, and take 1.5 times as long.
    """
    missing = -len(weight) % 32  # 64 bytes
    if not missing or dtype != torch.bfloat16:
        return weight.to(dtype)
    matrix = weight.new_zeros(len(weight) + missing, weight.size(1), dtype=dtype)
    matrix[: len(weight)] = weight
    return matrix


def _in_few_sizes(rows: Tensor, in_float32: bool) -> Tensor:
    """Add zero rows to (N, D) if a CPU would otherwise prepare and keep kernels for each number of rows."""
    missing = -len(rows) % 32
    return F.pad(rows, (0, 0, 0, missing)) if missing and rows.dtype == torch.bfloat16 and not in_float32 else rows
