"""Token embedding, section 3.4 of "Attention Is All You Need", and embeddings of several tokens together."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_positive, check_sizes
from transformer_zoo.blocks.masks import described
from transformer_zoo.kernels.divided import look_up
from transformer_zoo.kernels.projection import linear


def token_ids(ids: Any, name: str = "ids", *, dim: int | None = 2) -> Tensor:
    """Ids of any integer type as int64, the type that arithmetic with them and torch's lookup need.
    >>> token_ids(torch.tensor([[5, 7]], dtype=torch.uint8)).dtype
    torch.int64

    Args:
        ids: (B, T), or of any shape.
        name: what an error message calls them.
        dim: number of dimensions they must have; None: any.

    Raises:
        ValueError: the ids are not a tensor of whole numbers, or have another shape.
    """
    is_whole = isinstance(ids, Tensor) and not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
    if not is_whole or (dim is not None and ids.dim() != dim):
        shape = {None: "of any shape", 1: "(N,)"}.get(dim, "(B, T)")
        raise ValueError(f"{name} is {described(ids)}, expected a tensor of whole numbers, {shape}")
    return ids.long()  # type: ignore[no-any-return]


class TokenEmbedding(nn.Module):
    """A vector for each token, times sqrt(d_model). A tied output projection uses the same matrix.

    Entries are drawn from N(0, 1 / d_model), which gives scaled embeddings and tied logits unit variance. The row of
    the pad token starts at zero.
    >>> TokenEmbedding(100, 512)(torch.tensor([[5, 7, 7]])).shape
    torch.Size([1, 3, 512])

    Args:
        vocab_size: V.
        d_model: D.
        pad_id: the row that is zero and gets no gradient from the inputs; None: there is no such row.
        scale: multiply by sqrt(d_model); a number: multiply by that.
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
        """Ids (B, T) of any integer type -> (B, T, D)."""
        ids = token_ids(ids, dim=None)
        vectors = look_up(ids, self.weight, self.pad_id)  # (B, T, D)
        return vectors if self.scale == 1 else vectors * self.scale

    def logits(self, hidden: Tensor) -> Tensor:
        """The tied output projection: (..., D) -> (..., V)."""
        return linear(hidden, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.size(0)}, {self.weight.size(1)}, pad_id={self.pad_id}, scale={self.scale:g}"


_MIX = -7046029254386353131  # an odd number of 64 bits without a pattern: the golden ratio's, as SplitMix64 has it


class NgramEmbedding(nn.Module):
    """A vector for each token together with the one before it, with the two before it, and so on up to n tokens,
    summed.

    A hash gives each n-gram one of `rows` vectors, which all n-grams of its length share (Huang et al. 2025,
    "Over-Tokenized Transformer", section 3). The vectors start at zero. A lookup gives here what attention would need a
    layer to collect, without any matrix product.
    >>> NgramEmbedding(512, n=3, rows=1000)(torch.tensor([[5, 7, 7]])).shape
    torch.Size([1, 3, 512])

    Args:
        d_model: D.
        n: length of the longest n-gram, at least 2.
        rows: number of vectors for each length.

    Raises:
        ValueError: n is less than 2, or another argument is not a valid size.
    """

    def __init__(self, d_model: int, n: int, rows: int) -> None:
        super().__init__()
        check_sizes(d_model=d_model, rows=rows)
        check_sizes(n=n, least=2)  # one token is for TokenEmbedding
        self.n, self.rows = n, rows
        self.weight = nn.Parameter(torch.zeros((n - 1) * rows, d_model))

    def init_weights(self) -> None:
        """Set the vectors to zero, however other weights start."""
        nn.init.zeros_(self.weight)

    def forward(self, ids: Tensor, previous: Tensor | None = None, documents: Tensor | None = None) -> Tensor:
        """Look up the n-grams that end at each token.

        Args:
            ids: (B, T) of any integer type; -1 means no token, as before the first one.
            previous: (B, n - 1), the tokens before them; None: none.
            documents: (B, T) integers: an n-gram never reaches back over the beginning of its document.

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
