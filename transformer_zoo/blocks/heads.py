"""Heads of encoders that label texts and tokens: BERT's (Devlin et al. 2019, section 4) and related ones."""

from typing import Literal

import torch
from torch import Tensor, nn

from transformer_zoo.blocks.answers import flops_of_parts
from transformer_zoo.blocks.arguments import check_choice, check_flags, check_probabilities, check_sizes
from transformer_zoo.blocks.dropout import Dropout
from transformer_zoo.blocks.feed_forward import ACTIVATIONS, activation_of
from transformer_zoo.blocks.linear import Linear
from transformer_zoo.blocks.masks import key_mask

POOLINGS = ("mean", "first")


def pool(hidden: Tensor, mask: Tensor | None, how: Literal["mean", "first"]) -> Tensor:
    """One vector a text: the mean over its real tokens, or its first token's; zero if it has no tokens.

    Shapes: hidden (B, T, D), mask (B, T) booleans, True for a real token -> (B, D).
    >>> pool(torch.eye(2)[None], torch.tensor([[False, True]]), "first")
    tensor([[0., 1.]])

    Raises:
        ValueError: there is no such way, or the mask is not boolean or does not fit the tokens.
    """
    check_choice(POOLINGS, how=how)
    key_mask(mask, hidden.shape[:2], name="mask")
    real = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device) if mask is None else mask
    if how == "first":
        rows = torch.arange(hidden.size(0), device=hidden.device)  # no len(), which a graph would keep as a constant
        return hidden[rows, real.int().argmax(1)] * real.any(1, keepdim=True)
    return (hidden * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp_min(1)


class HeadProjection(nn.Module):
    """Norm(activation(x W^T + b)), or the same without the norm: (..., D) -> (..., E). E is D unless `d_out` is given.
    >>> HeadProjection(8, activation="tanh")(torch.zeros(2, 8)).shape
    torch.Size([2, 8])
    """

    label = "head's projection"
    reads, writes = ("proj",), ("proj", "norm")

    def __init__(
        self,
        d_model: int,
        d_out: int | None = None,
        *,
        activation: str,
        bias: bool = True,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model)
        check_sizes(d_out=d_out, optional=True)
        check_choice(ACTIVATIONS, activation=activation)
        check_flags(bias=bias)
        self.proj = Linear(d_model, d_out or d_model, bias)
        self.activation = activation_of(activation)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.proj(x))
        return x if self.norm is None else self.norm(x)


class LabelHead(nn.Module):
    """Logits of labels: of each token (..., D) -> (..., L); with `pooling` of each text, (B, T, D) -> (B, L).

    A vector of a text or of a token goes through the projection if there is one, then dropout, then x W^T + b.
    >>> LabelHead(8, n_labels=3, pooling="mean")(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 3])

    Args:
        d_model: width of the vectors.
        n_labels: L, the number of labels.
        projection: a module before the last projection, (..., D) -> (..., D).
        pooling: "first" or "mean", as for `pool`; None: each token gets labels.
        dropout: probability of dropping an input of the last projection.

    Raises:
        ValueError: an argument is out of range.
    """

    label = "head"

    def __init__(
        self,
        d_model: int,
        *,
        n_labels: int,
        projection: nn.Module | None = None,
        pooling: Literal["mean", "first"] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model, n_labels=n_labels)
        check_probabilities(dropout=dropout)
        if pooling is not None:
            check_choice(POOLINGS, pooling=pooling)
        self.projection, self.pooling = projection, pooling
        self.dropout = Dropout(dropout)
        self.out_proj = Linear(d_model, n_labels)
        self.reads, self.writes = ("out_proj",) if projection is None else ("projection",), ()

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: (B, T) booleans, True for a real token; it changes nothing without pooling."""
        x = hidden if self.pooling is None else pool(hidden, mask, self.pooling)
        x = x if self.projection is None else self.projection(x)
        logits: Tensor = self.out_proj(self.dropout(x))
        return logits

    def flops(self, n_keys: int) -> int:
        """Operations for one token; those for a whole text are divided among its tokens."""
        return flops_of_parts(self, n_keys) // (1 if self.pooling is None else n_keys)
