"""Sums over the updates since the last line of metrics, kept on the device so that reading them is rare."""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from transformer_zoo.training import distributed


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether no number in them is infinite or NaN; of tensors on a GPU one look is waited for."""
    finite = [tensor.detach().isfinite().all() for tensor in tensors]
    return not finite or bool(torch.stack(finite).all())


class Window:
    """Loss, tokens, gradient norms and time of some updates."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Starts an empty window now."""
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss, plain NLL: this process's
        self.tokens = torch.zeros((), dtype=torch.float64, device=self.device)
        self.norms = torch.zeros((), dtype=torch.float64, device=self.device)
        self.updates = 0
        self.started = time.monotonic()

    def add_loss(self, loss: Tensor, nll: Tensor) -> None:
        """Adds a micro-batch."""
        self.sums += torch.stack([loss, nll])

    def add_update(self, tokens: Tensor, norm: Tensor) -> None:
        """Adds an update: its global token count and the norm of its gradient."""
        self.tokens += tokens
        self.norms += norm.detach()
        self.updates += 1

    def pause(self, seconds: float) -> None:
        """Leaves `seconds` out of the speed."""
        self.started += seconds

    def finite(self) -> bool:
        """Whether every loss and every gradient since the last `reset` was finite."""
        return math.isfinite(float(self.sums.sum() + self.norms))

    def close(self) -> dict[str, float]:
        """Means per token and per update, tokens, and tokens per second; then starts again."""
        loss, nll = distributed.all_sum(self.sums).tolist()
        tokens, norm = self.tokens.item(), self.norms.item() / self.updates
        speed = tokens / max(time.monotonic() - self.started, 1e-9)
        self.reset()
        means = {"loss": loss / tokens, "nll": nll / tokens, "grad_norm": norm}
        return {**means, "tokens": tokens, "tokens_per_second": speed}
