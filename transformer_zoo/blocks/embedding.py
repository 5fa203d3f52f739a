"""Token embedding, section 3.4 of "Attention Is All You Need", and embeddings of several tokens together."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_positive, check_sizes
from transformer_zoo.blocks.masks import described
from transformer_zoo.kernels.projection import linear


def token_ids(ids: Any, name: str = "ids", *, dim: int | None = 2) -> Tensor:
    """Ids of any integer type as int64, which is what arithmetic with them and torch's lookup take.
    >>> token_ids(torch.tensor([[5, 7]], dtype=torch.uint8)).dtype
    torch.int64

    Args:
        ids: (B, T), or of any shape.
        name: for the error.
        dim: dimensions they must have; None: any.

    Raises:
        ValueError: they are no tensor of whole numbers, or have another shape.
    """
    is_whole = isinstance(ids, Tensor) and not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
    if not is_whole or (dim is not None and ids.dim() != dim):
        shape = {None: "of any shape", 1: "(N,)"}.get(dim, "(B, T)")
        raise ValueError(f"{name} is {described(ids)}, expected a tensor of whole numbers, {shape}")
    return ids.long()  # type: ignore[no-any-return]


class TokenEmbedding(nn.Module):
    """A vector for each token, times sqrt(d_model), and the same matrix as the output projection where it is tied.

    Entries are drawn from N(0, 1 / d_model), so that scaled embeddings have unit variance and tied logits too. The pad
    row starts at zero.
    >>> TokenEmbedding(100, 512)(torch.tensor([[5, 7, 7]])).shape
    torch.Size([1, 3, 512])

    Args:
        vocab_size: V.
        d_model: D.
        pad_id: the row that is zero and receives no gradient from the input side; None: no such row.
        scale: multiply by sqrt(d_model); a number: by that.
    """

    lookups = ("weight",)

    def __init__(self, vocab_size: int, d_model: int, *, pad_id: int | None = None, scale: bool | float = True) -> None:
        super().__init__()
        check_sizes(vocab_size=vocab_size, d_model=d_model)
        check_sizes(pad_id=pad_id, least=0, optional=True)
        if not isinstance(scale, bool):
            check_positive(scale=scale)
        if pad_id is not None and pad_id >= vocab_size:
            raise ValueError(f"pad_id is {pad_id}, outside the vocabulary of {vocab_size}")
        self.pad_id = pad_id
        self.scale = float({True: d_model**0.5, False: 1.0}[scale] if isinstance(scale, bool) else scale)
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model).normal_(std=d_model**-0.5))
        if pad_id is not None:
            with torch.no_grad():
                self.weight[pad_id] = 0

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T), integers of any type -> (B, T, D)."""
        ids = token_ids(ids, dim=None)
        vectors = F.embedding(ids, self.weight, self.pad_id)  # (B, T, D)
        return vectors if self.scale == 1 else vectors * self.scale

    def logits(self, hidden: Tensor) -> Tensor:
        """The tied output projection: (..., D) -> (..., V)."""
        return linear(hidden, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.size(0)}, {self.weight.size(1)}, pad_id={self.pad_id}, scale={self.scale:g}"


_MIX = -7046029254386353131  # an odd number of 64 bits without a pattern: the golden ratio's, as SplitMix64 has it


class NgramEmbedding(nn.Module):
    """The sum of a vector for each token with the one before it, with the two before it, and so on up to n tokens.

    N-grams of one length share `rows` vectors by a hash (Huang et al. 2025, "Over-Tokenized Transformer", section 3).
    They start at zero. What takes attention a layer to gather is here looked up, without any matrix product.
    >>> NgramEmbedding(512, n=3, rows=1000)(torch.tensor([[5, 7, 7]])).shape
    torch.Size([1, 3, 512])

    Args:
        d_model: D.
        n: the longest n-gram, at least 2.
        rows: vectors of each length.

    Raises:
        ValueError: n is less than 2, or another argument is no size.
    """

    def __init__(self, d_model: int, n: int, rows: int) -> None:
        super().__init__()
        check_sizes(d_model=d_model, rows=rows)
        check_sizes(n=n, least=2)  # one token is for TokenEmbedding
        self.n, self.rows = n, rows
        self.weight = nn.Parameter(torch.zeros((n - 1) * rows, d_model))

    def init_weights(self) -> None:
        """At zero, whatever the others start as."""
        nn.init.zeros_(self.weight)

    def forward(self, ids: Tensor, previous: Tensor | None = None, documents: Tensor | None = None) -> Tensor:
        """Look up what ends at each token.

        Args:
            ids: (B, T), integers of any type; -1 is no token, as before the first.
            previous: (B, n - 1), the tokens before them; None: none.
            documents: (B, T) integers: n-grams end where the document begins.

        Returns:
            (B, T, D).
        """
        ids = token_ids(ids)
        width = ids.size(1)
        if previous is None:
            previous = ids.new_full((ids.size(0), self.n - 1), -1)
        previous = token_ids(previous, "previous")
        tokens = torch.cat([previous, ids], dim=1)  # (B, n - 1 + T)
        key, rows = ids, []
        for back in range(1, self.n):
            before = tokens[:, self.n - 1 - back :][:, :width]
            if documents is not None:
                same = torch.zeros_like(before, dtype=torch.bool)
                same[:, back:] = documents[:, back:] == documents[:, :-back]
                before = before.masked_fill(~same, -1)
            key = (key + 2) * _MIX + before  # products wrap around, everywhere alike
            rows.append(((key * _MIX) >> 32) % self.rows + (back - 1) * self.rows)
        bags = torch.stack(rows, dim=-1)  # (B, T, n - 1)
        return F.embedding(bags, self.weight).sum(2)  # (B, T, D)

    def extra_repr(self) -> str:
        return f"n={self.n}, rows={self.rows}, {self.weight.size(1)}"
