"""Cross-entropy with label smoothing, from hidden states, without ever holding all logits."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks import TokenEmbedding, key_mask, token_ids
from transformer_zoo.blocks.derivatives import differentiate, is_more_asked, is_plain
from transformer_zoo.blocks.linear import float32_is_as_fast, in_autocast_dtype, multiply
from transformer_zoo.threads import adapt
from transformer_zoo.training.feed import Batch

BLOCK_LOGITS = 1 << 19  # on a CPU: few enough to stay in its cache
CHUNK_ROWS = 1024  # on a CPU: each chunk reads and writes all of the weight's gradient once more
CHUNK_ON_GPU = 4096  # few enough for its memory, enough to fill it


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradients are computed along with the loss, while a chunk's logits are at hand; backward scales them.

    With e the one-hot label, s the smoothing and V the vocabulary, the gradient of the logits is
    softmax - (1 - s) e - s / V. The last term is the same for every logit: its share of the gradients of `hidden` and
    `weight` is added once at the end, without a pass over the logits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        smoothing: float,
        softcap: float | None,
        vocab_size: int,
        chunk: int,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        n_tokens = len(weight)
        in_float32 = _is_bfloat16_on_cpu(hidden) and float32_is_as_fast(weight.numel())
        matrix = weight.to(hidden.dtype) if in_float32 else _in_whole_vectors(weight, hidden.dtype)  # (V', D), V' >= V
        need_grad = grad_enabled and any(ctx.needs_input_grad)  # the latter does not know of torch.no_grad
        nll = hidden.new_zeros((), dtype=wide)
        log_z = hidden.new_zeros((), dtype=wide)
        grad_hidden = torch.empty_like(hidden) if need_grad else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if need_grad and not len(hidden) else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if need_grad and bias is not None else None
        block = chunk if hidden.is_cuda else max(BLOCK_LOGITS // n_tokens, 1)
        for start in range(0, len(hidden), chunk):
            labels = targets[start : start + chunk, None]
            n, rows = len(labels), _in_few_sizes(hidden[start : start + chunk], in_float32)  # (chunk', D)
            product = _wide_product(rows, matrix.t(), wide, in_float32)  # (chunk', V')
            grads = product if product.dtype == hidden.dtype else torch.empty_like(product, dtype=hidden.dtype)
            blocks = (x.split(block) for x in (product[:n, :n_tokens], grads[:n, :n_tokens], labels))
            for some, grad, label in zip(*blocks, strict=True):
                logits = some.to(wide) if bias is None else some + bias.to(wide)  # (block, V)
                losses = _differentiate(logits, label, grad if need_grad else None, smoothing, softcap, vocab_size)
                nll += losses[0]
                log_z += losses[1]
                if grad_bias is not None:
                    grad_bias += grad.sum(0, dtype=wide)
            if grad_hidden is None:
                continue
            if in_float32 or len(rows) > n:
                grad_hidden[start : start + chunk] = _wide_product(grads, matrix, wide, in_float32)[:n]
            else:
                multiply(grads, matrix, out=grad_hidden[start : start + chunk])
            if grad_weight is None:
                grad_weight = _wide_product(grads.t(), rows, wide, in_float32)[:n_tokens].to(wide)
            elif grads.dtype == wide:
                grad_weight.addmm_(grads.t(), rows)
            else:
                grad_weight += _wide_product(grads.t(), rows, wide, in_float32)[:n_tokens]
        loss = nll.clone()
        if smoothing:
            # The mean over the vocabulary of -log p is log Z less the mean logit, which is a product with the mean row.
            real = matrix[:vocab_size]
            sum_hidden, mean_weight = hidden.sum(0, dtype=wide), real.mean(0, dtype=wide)  # (D,), (D,)
            mean_bias = 0.0 if bias is None else bias[:vocab_size].mean(dtype=wide)
            uniform = log_z - sum_hidden @ mean_weight - len(hidden) * mean_bias
            loss = (1 - smoothing) * nll + smoothing * uniform
            if grad_hidden is not None and grad_weight is not None:
                grad_hidden -= (smoothing * mean_weight).to(hidden.dtype)
                grad_weight[:vocab_size] -= smoothing / vocab_size * sum_hidden
            if grad_bias is not None:
                grad_bias[:vocab_size] -= smoothing / vocab_size * len(hidden)
        ctx.formula = partial(_plain_loss, targets=targets, smoothing=smoothing, softcap=softcap, vocab_size=vocab_size)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias, hidden, weight, bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias, *inputs = ctx.saved_tensors
        scale = grads[0]
        if is_more_asked(scale):
            needs_hidden, needs_weight, _, needs_bias = ctx.needs_input_grad[:4]
            needed = needs_hidden, needs_weight, needs_bias
            of_hidden, of_weight, of_bias = differentiate(ctx.formula, inputs, needed, scale)
            return of_hidden, of_weight, None, of_bias, *[None] * 5
        return (
            grad_hidden * scale.to(grad_hidden.dtype),
            (grad_weight * scale).to(inputs[1].dtype),
            None,
            None if grad_bias is None else grad_bias * scale,
            *[None] * 5,
        )


def _plain_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    targets: Tensor,
    smoothing: float,
    softcap: float | None,
    vocab_size: int,
) -> Tensor:
    """The loss as the formula has it, from all logits at once."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    logits = (hidden @ weight[:vocab_size].to(hidden.dtype).t()).to(wide)  # (N, V)
    if bias is not None:
        logits = logits + bias[:vocab_size]
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)


def _differentiate(
    logits: Tensor, label: Tensor, grad: Tensor | None, smoothing: float, softcap: float | None, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """The sums of -log p of the labels (N, 1) and of log Z. What logits (N, V) held is lost; grad becomes theirs."""
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
    """a @ b, accumulated and kept in `dtype` where the device can, or it shall; else as it is computed."""
    if a.is_cuda and a.dtype != dtype:
        return torch.mm(a, b, out_dtype=dtype)
    if in_float32:
        return a.to(dtype) @ b.to(dtype)
    return a @ b


def _in_whole_vectors(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight (V, D) in this dtype; where a CPU is to multiply it in bfloat16, zero rows fill its last vector of
    logits up, or rows of logits would not begin with whole ones, and take 1.5 times as long.
    """
    missing = -len(weight) % 32  # 64 bytes
    if not missing or weight.device.type != "cpu" or dtype != torch.bfloat16:
        return weight.to(dtype)
    matrix = weight.new_zeros(len(weight) + missing, weight.size(1), dtype=dtype)
    matrix[: len(weight)] = weight
    return matrix


def _in_few_sizes(rows: Tensor, in_float32: bool) -> Tensor:
    """Zero rows added to (N, D) where for each number of them a CPU would prepare kernels, and keep them."""
    missing = -len(rows) % 32
    return F.pad(rows, (0, 0, 0, missing)) if missing and _is_bfloat16_on_cpu(rows) and not in_float32 else rows


def _is_bfloat16_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.bfloat16


def select_tokens(hidden: Tensor, targets: Tensor, real: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
    """What `linear_cross_entropy` takes of a batch: hidden states in autocast's dtype, and targets, without padding.

    Args:
        hidden: (B, T, D).
        targets: (B, T).
        real: (B, T) booleans; None: all are real.
        n: how many are; asking a GPU for it would wait for its queue.

    Returns:
        (n, D) and (n,).
    """
    key_mask(real, targets.shape, name="real")
    hidden, targets = hidden.flatten(0, 1), targets.flatten()
    if real is not None:
        places = torch.nonzero_static(real.flatten(), size=n).squeeze(1)  # (n,)
        hidden, targets = hidden[places], targets[places]
    return in_autocast_dtype(hidden), targets


def add_up_sparsely(model: nn.Module, head_weight: Tensor) -> None:
    """For a loss that uses all of the output projection: where that is an embedding too, its gradient is dense already,
    and a CPU adds the few rows that were looked up instead of a second matrix full of zeros.
    """
    for module in model.modules():
        if isinstance(module, TokenEmbedding):
            module.sparse = module.weight is head_weight


@torch.no_grad()
def total_nll(objective: nn.Module, batches: Iterable[Batch]) -> tuple[float, int]:
    """The plain negative log-likelihood of all tokens that count, in nats, and their number."""
    objective.eval()
    device = next(objective.parameters()).device
    total, n_tokens = torch.zeros((), dtype=torch.float64, device=device), 0
    for batch in batches:
        adapt()
        total += objective(batch.to(device))[1]
        n_tokens += batch.n_tokens
    return total.item(), n_tokens


def rows_at_once(vocabulary: int, device: torch.device) -> int:
    """Tokens whose logits `linear_cross_entropy` has at the same time, where nobody says how many."""
    return CHUNK_ON_GPU if device.type == "cuda" else max(BLOCK_LOGITS // vocabulary, CHUNK_ROWS)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    vocab_size: int | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum over tokens of the cross-entropy of `hidden @ weight.T + bias`, in float32 or wider.

    Equal to `F.cross_entropy(logits, targets, reduction="sum", label_smoothing=...)`, but the logits exist `chunk`
    rows at a time. The caller drops padding first.

    Args:
        hidden: (N, D), of the dtype the products are to be taken in.
        weight: (V, D); it is brought to that dtype.
        targets: (N,), integers of any type, each below V.
        bias: (V,).
        label_smoothing: probability spread evenly over the vocabulary (the paper's section 5.4: 0.1).
        softcap: bounds the logits: softcap * tanh(logits / softcap). Not with label smoothing.
        vocab_size: rows of the weight that are tokens; the rest pads it, with probability 0. None: all.
        chunk: rows at a time; None: what suits the device.

    Returns:
        The smoothed loss, in nats, and the plain negative log-likelihood, in nats, without gradient; both ().

    Raises:
        ValueError: softcap together with label smoothing, or targets that are no whole numbers.
    """
    targets = token_ids(targets, "targets", dim=1)
    if softcap is not None and label_smoothing:
        raise ValueError("label smoothing and a soft-cap of the logits cannot be used together")
    chunk = chunk or rows_at_once(len(weight), hidden.device)
    vocab_size = len(weight) if vocab_size is None else vocab_size
    with torch.autocast(hidden.device.type, enabled=False):
        if is_plain() and not torch.compiler.is_compiling():  # compiled too, logits shall exist a few rows at a time
            plain = partial(_plain_loss, hidden, weight, bias, targets=targets, softcap=softcap, vocab_size=vocab_size)
            return plain(smoothing=label_smoothing), plain(smoothing=0.0).detach()
        loss, nll = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden,
            weight,
            targets,
            bias,
            label_smoothing,
            softcap,
            vocab_size,
            chunk,
            torch.is_grad_enabled(),
        )
    return loss, nll
