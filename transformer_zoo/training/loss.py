"""Cross-entropy with label smoothing, from hidden states, without ever holding all logits in memory."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from transformer_zoo.blocks import key_mask, token_ids
from transformer_zoo.kernels.cpu import with_float64
from transformer_zoo.kernels.cross_entropy import IGNORED, Options, cross_entropy
from transformer_zoo.kernels.projection import in_autocast_dtype
from transformer_zoo.threads import adapt
from transformer_zoo.training.task import Batch


def flat_tokens(hidden: Tensor, targets: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The arguments of `linear_cross_entropy` for a batch: hidden states in autocast's dtype, and targets.

    No token is left out, so that a graph has one shape for any amount of padding. On a CPU tokens are left out later.

    Args:
        hidden: (B, T, D).
        targets: (B, T), integers of any type.
        real: (B, T) booleans; targets of the other tokens become `IGNORED`; None: targets stay as they are.

    Returns:
        (B T, D) and (B T,).
    """
    targets = token_ids(targets, "targets")
    key_mask(real, targets.shape, name="real")
    if real is not None:
        targets = torch.where(real, targets, IGNORED)
    return in_autocast_dtype(hidden.flatten(0, 1)), targets.flatten()


@torch.no_grad()
def total_nll(objective: nn.Module, batches: Iterable[Batch]) -> tuple[float, int]:
    """The plain negative log-likelihood of all tokens that count, in nats, and the number of these tokens."""
    objective.eval()
    device = next(objective.parameters()).device
    total, n_tokens = torch.zeros((), dtype=torch.float64, device=with_float64(device)), 0
    for batch in batches:
        adapt()
        total += objective(batch.to(device, non_blocking=True))[1].to(total.device)
        n_tokens += batch.n_tokens
    return total.item(), n_tokens


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

    It equals `F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum", label_smoothing=...)`, but only
    `chunk` rows of logits exist at a time. Padding costs less if the caller drops it first.

    Args:
        hidden: (N, D), in the dtype of the products.
        weight: (V, D); it is converted to that dtype.
        targets: (N,), integers of any type, each below V; -1 does not count.
        bias: (V,).
        label_smoothing: probability spread evenly over the vocabulary (the paper's section 5.4: 0.1).
        softcap: bound of the logits: softcap * tanh(logits / softcap). Not with label smoothing.
        vocab_size: number of rows of the weight that are tokens; the others are padding with probability 0. None: all.
        chunk: number of rows at a time; None: what suits the device.

    Returns:
        The smoothed loss and the plain negative log-likelihood, the latter without gradient; both () in nats.

    Raises:
        ValueError: softcap comes with label smoothing, or targets are not whole numbers.
    """
    targets = token_ids(targets, "targets", dim=1)
    if softcap is not None and label_smoothing:
        raise ValueError("label smoothing and a soft-cap of the logits cannot be used together")
    options = Options(label_smoothing, softcap, len(weight) if vocab_size is None else vocab_size)
    with torch.autocast(hidden.device.type, enabled=False):
        return cross_entropy(hidden, weight, bias, targets, options, rows=chunk)
