"""Positions that are added to the embedding: sinusoidal and learned. Rotary ones act inside attention instead."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_choice, check_sizes
from transformer_zoo.blocks.embedding import token_ids
from transformer_zoo.blocks.tables import Tables


class Positions(nn.Module):
    """How a stack is told the places of its tokens: by what is added to x, by a bias of all scores, or, as here, not.

    A rotation of queries and keys belongs to an attention: `RotaryPositions`.
    >>> Positions().add(torch.tensor([[[1.0, 2.0]]]), 0, None)
    tensor([[[1., 2.]]])
    """

    scores_by_place = False
    """Whether it is called with places (B, Tq) and (B, Tk) for a bias (B, H, Tq, Tk): a cache then keeps places."""
    may_be_none = False
    """Whether a token at a negative place has none."""

    def add(self, x: Tensor, start: int, positions: Tensor | None) -> Tensor:
        """x (B, T, D) with its places: start, start + 1, ..., or the given positions (B, T)."""
        return x


class _Added(Positions):
    """Vectors: `forward(n, positions)` gives them."""

    def add(self, x: Tensor, start: int, positions: Tensor | None) -> Tensor:
        """The sum of x and the vectors of its places."""
        vectors: Tensor = self(start + x.size(1))[start:] if positions is None else self(1, positions)
        return x + vectors.to(x.dtype)


LAYOUTS = ("interleaved", "halves", "halves_inclusive")


def sinusoids(positions: Tensor, d_model: int, *, layout: str = "interleaved") -> Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos of the same (section 3.5).
    >>> sinusoids(torch.tensor([1]), 4, layout="halves")
    tensor([[0.8415, 0.0100, 0.5403, 0.9999]])

    Args:
        positions: any shape, integers from 0, of any size.
        layout: "interleaved" sine and cosine as in the paper, or "halves", all sines before all cosines, as in Marian;
            "halves_inclusive": so too, with exponents that reach 1, as in tensor2tensor and fairseq. An odd d_model
            lacks the last cosine, or with "halves_inclusive" has a zero for the last frequency.

    Returns:
        (*positions.shape, D) float32. Angles are taken in float64: far positions keep their phase.

    Raises:
        ValueError: another layout.
    """
    check_choice(LAYOUTS, layout=layout)
    check_sizes(d_model=d_model, least=0)
    width = d_model - d_model % 2 if layout == "halves_inclusive" else d_model
    exponents = torch.arange(0, width, 2, device=positions.device, dtype=torch.float64)  # (D/2,)
    exponents /= max(width - 2, 1) if layout == "halves_inclusive" else width
    angles = positions[..., None].double() * torch.exp(-math.log(10000.0) * exponents)  # (..., D/2)
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1 if layout == "interleaved" else -2).flatten(-2)
    return F.pad(waves, (0, d_model - waves.size(-1))).float()  # (..., D); a negative padding cuts


class SinusoidalPositions(Tables, _Added):
    """The paper's fixed positional encoding, `sinusoids`, for any length. The first position has place `offset`.

    The position `blank`, if there is one, has none.

    Shapes: the first n positions -> (n, D), or positions (B, T) -> (B, T, D), to be added to the embedding. A negative
    position is none: zeros.
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
        """The first places, (table_size, D)."""
        return {"table": self._waves(torch.arange(self.table_size, device=device))}

    def add(self, x: Tensor, start: int, positions: Tensor | None) -> Tensor:
        """The sum of x and the waves of its places."""
        self.bring_to(x.device)
        return super().add(x, start, positions)

    def _waves(self, positions: Tensor) -> Tensor:
        waves = sinusoids(positions.double() + self.offset, self.d_model, layout=self.layout)
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

    The first position has row `offset`; the rows before it are never used, and there because BART and OPT have them.
    >>> LearnedPositions(1024, 512)(5).shape
    torch.Size([5, 512])

    Raises:
        ValueError: a position past `max_seq_len`; they never wrap. On a GPU, which looking at given positions would
            stall, torch's own check stops the program.
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
