"""Token embedding, section 3.4 of "Attention Is All You Need"."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TokenEmbedding(nn.Module):
    """A vector for each token, times sqrt(d_model), and the same matrix as the output projection where it is tied.

    Entries are drawn from N(0, 1 / d_model), so that scaled embeddings have unit variance and tied logits too. The pad
    row starts at zero.

    Args:
        vocab_size: V.
        d_model: D.
        pad_id: the row that is zero and receives no gradient from the input side; None: no such row.
        scale: multiply by sqrt(d_model).
    """

    def __init__(
        self, vocab_size: int, d_model: int, *, pad_id: int | None = None, scale: bool = True
    ) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.scale = d_model**0.5 if scale else 1.0
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model).normal_(std=d_model**-0.5))
        if pad_id is not None:
            with torch.no_grad():
                self.weight[pad_id] = 0

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) int64 -> (B, T, D)."""
        return F.embedding(ids, self.weight, self.pad_id) * self.scale

    def logits(self, hidden: Tensor) -> Tensor:
        """The tied output projection: (..., D) -> (..., V)."""
        return F.linear(hidden, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.size(0)}, {self.weight.size(1)}, pad_id={self.pad_id}, scale={self.scale:g}"
