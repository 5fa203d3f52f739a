"""Positions that are added to the embedding: sinusoidal and learned. Rotary positions act inside attention instead."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_choice, check_sizes
from transformer_zoo.blocks.embedding import token_ids
from transformer_zoo.blocks.tables import Tables
from transformer_zoo.kernels.cpu import with_float64


class Positions(nn.Module):
    """How a stack tells its layers where tokens are: by a vector added to x, by a bias of all scores, or, as here, not
    at all.

    A rotation of queries and keys belongs to the attention: `RotaryPositions`.
    >>> Positions().add(torch.tensor([[[1.0, 2.0]]]), 0, None)
    tensor([[[1., 2.]]])
    """

    scores_by_place = False
    """Whether it is called with positions (B, Tq) and (B, Tk) and returns a bias (B, H, Tq, Tk); a cache then keeps
    positions."""
    may_be_none = False
    """Whether a negative position means that a token has none."""

    def add(self, x: Tensor, start: int, positions: Tensor | None) -> Tensor:
        """x (B, T, D) with its positions: start, start + 1, ..., or the given positions (B, T)."""
        return x


class _Added(Positions):
    """Positions that are vectors, given by `forward(n, positions)`."""

    def add(self, x: Tensor, start: int, positions: Tensor | None) -> Tensor:
        """The sum of x and the vectors of its positions."""
        vectors: Tensor = self(start + x.size(1))[start:] if positions is None else self(1, positions)
        return x + vectors.to(x.dtype)


LAYOUTS = ("interleaved", "halves", "halves_inclusive")


def sinusoids(positions: Tensor, d_model: int, *, layout: str = "interleaved") -> Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos of the same (section 3.5).
    >>> sinusoids(torch.tensor([1]), 4, layout="halves")
    tensor([[0.8415, 0.0100, 0.5403, 0.9999]])

    Args:
        positions: integers from 0 of any size, in any shape.
        layout: "interleaved" sine and cosine as in the paper, or "halves", all sines before all cosines, as in Marian.
            "halves_inclusive" is like "halves", with exponents that reach 1, as in tensor2tensor and fairseq. With an
            odd d_model the last cosine is missing; "halves_inclusive" has a zero for the last frequency instead.

    Returns:
        (*positions.shape, D) float32. Angles are computed in float64, so that large positions keep their phase.

    Raises:
        ValueError: there is no such layout.
    """
    check_choice(LAYOUTS, layout=layout)
    check_sizes(d_model=d_model, least=0)
    width = d_model - d_model % 2 if layout == "halves_inclusive" else d_model
    home = with_float64(positions.device)
    exponents = torch.arange(0, width, 2, device=home, dtype=torch.float64)  # (D/2,)
    exponents /= max(width - 2, 1) if layout == "halves_inclusive" else width
    angles = positions.to(home)[..., None].double() * torch.exp(-math.log(10000.0) * exponents)  # (..., D/2)
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1 if layout == "interleaved" else -2).flatten(-2)
    waves = F.pad(waves, (0, d_model - waves.size(-1)))  # (..., D); a negative padding cuts
    return waves.float().to(positions.device)


class SinusoidalPositions(Tables, _Added):
    """The paper's fixed positional encoding, `sinusoids`, for any length. The first token has position `offset`.

    If `blank` is given, that position has a vector of zeros.

    Shapes: the first n positions -> (n, D), or positions (B, T) -> (B, T, D), to be added to the embedding. A negative
        position gives zeros.
    >>> SinusoidalPositions(4)(2)[1]  # sin 1, cos 1, sin 1/100, cos 1/100
    tensor([0.8415, 0.5403, 0.0100, 0.9999])
    """

    table: Tensor
    may_be_none = True

    def __init__(
        self,
        d_model: int,
        *,
        layout: str = "interleaved",
        offset: int = 0,
        blank: int | None = None,
        table_size: int = 1024,
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model)
        check_sizes(offset=offset, table_size=table_size, least=0)
        check_sizes(blank=blank, least=0, optional=True)
        self.d_model, self.layout, self.offset, self.blank = d_model, layout, offset, blank
        self.table_size = table_size
        self.compute_tables()

    def tables(self, device: torch.device | None) -> dict[str, Tensor]:
        """The vectors of the first positions, (table_size, D)."""
        return {"table": self._waves(torch.arange(self.table_size, device=device))}

    def add(self, x: Tensor, start: int, positions: Tensor | None) -> Tensor:
        """The sum of x and the sinusoids of its positions."""
        self.bring_to(x.device)
        return super().add(x, start, positions)

    def _waves(self, positions: Tensor) -> Tensor:
        waves = sinusoids(positions.long() + self.offset, self.d_model, layout=self.layout)
        return waves if self.blank is None else waves.masked_fill(positions[..., None] == self.blank, 0)

    def forward(self, n: int, positions: Tensor | None = None) -> Tensor:
        """Encodings of positions 0 to n - 1, (n, D); or of the given `positions`, any shape -> (*shape, D)."""
        if positions is not None:
            waves = self._waves(positions).to(self.dtype)
            return waves.masked_fill(positions[..., None] < 0, 0)
        if n <= self.table.size(0):
            return self.table[:n].to(self.dtype)
        return self._waves(torch.arange(n, device=self.table.device)).to(self.dtype)


class LearnedPositions(_Added):
    """One learned vector for each position up to `max_seq_len`, as in GPT and BERT.

    The first position has row `offset`. The rows before it are never used; they exist because BART and OPT have them.
    >>> LearnedPositions(1024, 512)(5).shape
    torch.Size([5, 512])

    Raises:
        ValueError: a position is past `max_seq_len`; positions never wrap. On a GPU, where this check of given
            positions would wait for the device, torch's own check stops the program instead.
    """

    lookups = ("weight",)

    def __init__(self, max_seq_len: int, d_model: int, *, offset: int = 0) -> None:
        super().__init__()
        check_sizes(max_seq_len=max_seq_len, d_model=d_model)
        check_sizes(offset=offset, least=0)
        self.max_seq_len, self.offset = max_seq_len, offset
        self.weight = nn.Parameter(torch.empty(max_seq_len + offset, d_model).normal_(std=d_model**-0.5))

    def forward(self, n: int, positions: Tensor | None = None) -> Tensor:
        """Vectors of positions 0 to n - 1, (n, D); or of the given `positions`, any shape -> (*shape, D)."""
        if n > self.max_seq_len:
            raise ValueError(f"{n} tokens are more than max_seq_len {self.max_seq_len}")
        if positions is None:
            return self.weight[self.offset : self.offset + n]
        positions = token_ids(positions, "positions", dim=None)
        try:
            return F.embedding(positions + self.offset, self.weight)
        except IndexError:  # on a CPU
            last = int(positions.max())
            raise ValueError(f"position {last}, from 0, is past max_seq_len {self.max_seq_len}") from None
