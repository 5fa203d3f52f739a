"""The training objective of an encoder-decoder."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from transformer_zoo.data import Batch
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.training.loss import linear_cross_entropy


class TranslationObjective(nn.Module):
    """Cross-entropy of the target tokens given source and earlier targets, summed over the real ones of a batch.

    `forward(batch)` gives (smoothed loss, plain NLL), both () float32 in nats. Smoothing is for training: in evaluation
    mode both are the plain NLL.
    """

    def __init__(self, model: EncoderDecoder, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self._compiled: Callable[..., Tensor] | None = None

    def compile(self, *args: Any, **options: Any) -> None:
        """Compiles the model for training only: the loss loops over chunks, and beam search has shapes of its own."""
        self._compiled = torch.compile(self.model.hidden, *args, **options)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        hidden_of = self._compiled if self._compiled is not None and self.training else self.model.hidden
        hidden = hidden_of(batch.source, batch.target_in, batch.source_mask, batch.target_mask)  # (B, Tt, D)
        hidden, targets = hidden.flatten(0, 1), batch.target_out.flatten()
        if batch.target_mask is not None:
            # The number of real tokens is known here; asking a GPU for it would wait for its queue.
            real = torch.nonzero_static(batch.target_mask.flatten(), size=batch.n_tokens).squeeze(1)  # (N,)
            hidden, targets = hidden[real], targets[real]
        if torch.is_autocast_enabled(hidden.device.type):
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        smoothing = self.label_smoothing if self.training else 0.0
        return linear_cross_entropy(hidden, self.model.head_weight, targets, label_smoothing=smoothing)


@torch.no_grad()
def mean_nll(objective: TranslationObjective, batches: Iterable[Batch]) -> float:
    """Plain negative log-likelihood per target token, eos included, in nats; its exponential is the perplexity."""
    objective.eval()
    device = next(objective.parameters()).device
    total, n_tokens = torch.zeros((), dtype=torch.float64, device=device), 0
    for batch in batches:
        total += objective(batch.to(device))[1]
        n_tokens += batch.n_tokens
    return total.item() / n_tokens
