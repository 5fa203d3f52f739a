"""Cross-entropy of tokens from hidden states, without ever holding all logits in memory.

Shapes: N tokens, D width, V vocabulary, R rows of one chunk.

A CPU computes the formula and its gradients in place, in blocks that fit into its cache (`cross_entropy_in_place`). On
other devices, and for torch.compile, there are a few large chunks, each with the formula and its gradient written out
(`_by_chunks`). A compiler turns that into two passes over a chunk's logits: one finds log Z, the other replaces logits
by their gradient.

Bytes that go through a GPU's memory for each token and entry of the vocabulary, forward and backward, in bfloat16:

- here: 2 to write a logit, 2 + 2 to read it twice, 2 to write its gradient, and 2 + 2 for the two products that read
  the gradient. That is 12. Reading the weight twice and adding its gradient up in float32, once for each chunk, adds 16
  D / R.
- the formula under torch.compile: 12 too, and 8 D / N for the weight. But all N V logits are kept for the backward
  pass, and their gradient as well. Without compiling, with copies in float32, it is 42.
- Liger's fused kernel: 12, and 8 D / R with small chunks (R is N D / V, rounded up to a power of two). For GPT-2's
  sizes and 16,384 tokens R is 256, which adds 24. Here R is 8,192, which adds 1.5.
- Apple's cut cross-entropy: none, because logits never leave the chip. The backward pass computes them again, with 8 D
  operations for each token and entry instead of 6 D. At 600 TFLOP/s and 4.8 TB/s these 2 D take as long as the 6 bytes
  that are not part of a product when D is 375. Chunks are faster above that width, and cut cross-entropy below.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.kernels.cross_entropy_in_place import in_place, rows_on_cpu
from transformer_zoo.kernels.derivatives import differentiate, is_more_asked, is_plain
from transformer_zoo.kernels.divided import Rows, is_divided

IGNORED = -1
"""A target that does not count."""

LOGITS_AT_ONCE = 1 << 30
"""Bytes of logits in a chunk of `_by_chunks`: large, so that the weight's gradient is added up only a few times."""

MOST_CHUNKS = 16
"""A compiled graph holds each chunk's operations, so their number must not grow with the batch."""


class Options(NamedTuple):
    """The arguments of the formula that are not tensors; as for `linear_cross_entropy`."""

    smoothing: float
    softcap: float | None
    vocab_size: int


def formula(hidden: Tensor, weight: Tensor, bias: Tensor | None, *, targets: Tensor, options: Options) -> Tensor:
    """The sum over tokens of -log softmax(W h + b)[target], from all logits at once."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    logits = (hidden @ weight[: options.vocab_size].to(hidden.dtype).t()).to(wide)  # (N, V)
    if bias is not None:
        logits = logits + bias[: options.vocab_size]
    if options.softcap is not None:
        logits = options.softcap * torch.tanh(logits / options.softcap)
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum", label_smoothing=options.smoothing)


Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Gradients of `hidden`, weight and bias."""
Compute = Callable[[Tensor, Tensor, Tensor | None, Tensor, Options, bool], tuple[Tensor, Tensor, Gradients]]


def cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, options: Options, *, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """The loss, and the negative log-likelihood without gradient, both (), in the fastest way for the device.

    Args:
        hidden: (N, D).
        weight: (V, D), converted to the dtype of `hidden`. Processes with the same `hidden` may divide its rows.
        bias: (V,).
        targets: (N,) int64; `IGNORED` does not count.
        options: of the formula.
        rows: number of rows whose logits may exist at the same time; None: what suits the device.
    """
    compiling, part = torch.compiler.is_compiling(), Rows(weight) if is_divided(weight) else None
    if part is not None:
        weight, bias = part.own, part.of(bias)
    if is_plain() and not compiling and part is None:  # compiled too, logits shall exist a few rows at a time
        plain = partial(formula, hidden, weight, bias, targets=targets)
        return plain(options=options), plain(options=options._replace(smoothing=0.0)).detach()
    if hidden.device.type == "cpu" and not compiling and part is None:
        if (targets == IGNORED).any():
            counted = targets != IGNORED
            hidden, targets = hidden[counted], targets[counted]
        compute: Compute = partial(in_place, rows or rows_on_cpu(len(weight)))
    else:
        n_chunks = number_of_chunks(len(hidden), len(weight) * hidden.element_size(), rows)
        compute = partial(_by_chunks, n_chunks, part=part)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (hidden, weight, bias)):
        loss, nll = _WithGradients.apply(hidden, weight, bias, targets, options, compute)  # type: ignore[no-untyped-call]
        return loss, nll
    loss, nll, _ = compute(hidden, weight, bias, targets, options, False)
    return loss, nll


def rows_at_once(vocabulary: int, device: torch.device) -> int:
    """Number of tokens whose logits, with their gradient, exist at the same time, in bfloat16."""
    return rows_on_cpu(vocabulary) if device.type == "cpu" else max(LOGITS_AT_ONCE // (2 * vocabulary), 1)


def number_of_chunks(rows: int, bytes_of_row: int, most_rows: int | None = None) -> int:
    """A power of two, found by comparisons only, so that one graph serves all numbers of rows between two powers."""
    if most_rows is not None:
        return max(-(-rows // most_rows), 1)
    n = 1
    while n < MOST_CHUNKS and rows * bytes_of_row > n * LOGITS_AT_ONCE:
        n *= 2
    return n


class _WithGradients(torch.autograd.Function):
    """The gradients are computed together with the loss, while logits exist; the backward pass scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        options: Options,
        compute: Compute,
    ) -> tuple[Tensor, Tensor]:
        loss, nll, gradients = compute(hidden, weight, bias, targets, options, True)
        ctx.options = options
        ctx.save_for_backward(*gradients, hidden, weight, bias, targets)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *gradients, hidden, weight, bias, targets = ctx.saved_tensors
        inputs, scale = (hidden, weight, bias), grads[0]
        if not torch.compiler.is_compiling() and is_more_asked(scale):
            loss = partial(formula, targets=targets, options=ctx.options)
            return *differentiate(loss, inputs, ctx.needs_input_grad[:3], scale), None, None, None
        pairs = zip(gradients, inputs, strict=True)
        scaled = [None if g is None else (g * scale.to(g.dtype)).to(x.dtype) for g, x in pairs]
        return *scaled, None, None, None


def _by_chunks(
    n_chunks: int,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    options: Options,
    with_gradient: bool,
    *,
    part: Rows | None = None,
) -> tuple[Tensor, Tensor, Gradients]:
    """Loss, negative log-likelihood and, if wanted, gradients, by this many chunks; the rest as for `cross_entropy`.

    part: the rows of the weight that are here, if processes divide them.
    """
    n, matrix = len(hidden), weight.to(hidden.dtype)
    if n_chunks > 1:  # of equal size, so that all use the same kernels
        missing = -n % n_chunks
        hidden, targets = F.pad(hidden, (0, 0, 0, missing)), F.pad(targets, (0, missing), value=IGNORED)
    chunks = hidden.view(n_chunks, -1, hidden.size(1)), targets.view(n_chunks, -1, 1)
    sums: list[Tensor] = []
    of_hidden = []
    for rows, labels in zip(*chunks, strict=True):
        loss, nll, grads = _of_logits(rows @ matrix.t(), bias, labels, options, part)
        found = [loss, nll]
        if with_gradient:
            of_hidden.append(grads @ matrix)
            found += [(grads.t() @ rows).to(loss.dtype), grads.sum(0, dtype=loss.dtype)]
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
    if not with_gradient:
        return sums[0], sums[1], (None, None, None)
    found_of_hidden = torch.cat(of_hidden)
    if part is not None:  # each process has what comes from its own rows
        part.total(found_of_hidden)
    return sums[0], sums[1], (found_of_hidden[:n], sums[2], None if bias is None else sums[3])


def _of_logits(
    logits: Tensor, bias: Tensor | None, labels: Tensor, options: Options, part: Rows | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """From logits (n, V) and labels (n, 1): loss and negative log-likelihood, (), and the logits' gradient.

    With e the one-hot label, s the smoothing and V the tokens that are real, the gradient is
    softmax - (1 - s) e - s / V.
    """
    smoothing, softcap, vocab_size = options
    first = 0 if part is None else part.first
    tokens = torch.arange(first, first + logits.size(1), device=logits.device)
    real, counts = tokens < vocab_size, labels != IGNORED  # (V,), (n, 1)
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if bias is not None:
        scores = scores + bias
    if softcap is not None:
        bounded = torch.tanh(scores / softcap)
        scores = softcap * bounded
    known, is_label = scores.masked_fill(~real, -torch.inf), tokens == labels
    if part is None:
        log_z, of_label = known.logsumexp(-1, keepdim=True), scores.gather(1, labels.clamp_min(0))  # (n, 1)
    else:
        log_z, of_label = part.log_z(known), part.total(torch.where(is_label, scores, 0).sum(-1, keepdim=True))
    nll = log_z - of_label
    loss = nll
    grads = torch.where(real, (scores - log_z).exp(), 0)
    grads = torch.where(is_label, grads - (1 - smoothing), grads)
    if smoothing:
        total = torch.where(real, scores, 0).sum(-1, keepdim=True)
        mean = (total if part is None else part.total(total)) / vocab_size
        loss = (1 - smoothing) * nll + smoothing * (log_z - mean)
        grads = torch.where(real, grads - smoothing / vocab_size, 0)
    if softcap is not None:
        grads = grads * (1 - bounded.square())
    grads = torch.where(counts, grads, 0).to(logits.dtype)
    return torch.where(counts, loss, 0).sum(), torch.where(counts, nll, 0).sum(), grads


# Gain over torch's linear and cross_entropy, forward and backward, with label smoothing
# (recipes/benchmarks/kernels.py; Intel Xeon with AMX, torch 2.13, one thread | two; one machine): 4,096 tokens by
# (256, 8000) 1.6 | 1.7 in float32, 3.3 | 3.4 in bfloat16; 1,024 by (384, 32000) 1.3 | 1.3 and 2.0 | 2.0.
