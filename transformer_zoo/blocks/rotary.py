"""Rotary positions (Su et al. 2021, "RoFormer"): queries and keys are rotated by angles that grow with the position."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from transformer_zoo.blocks.arguments import check_choice, check_flags, check_positive, check_sizes
from transformer_zoo.blocks.tables import Tables
from transformer_zoo.kernels.cpu import with_float64
from transformer_zoo.kernels.rotation import rotate

ROTARY_LAYOUTS = ("halves", "interleaved")


class Rotation(NamedTuple):
    """Cosine and sine of each angle, (T, R/2) or (B, 1, T, R/2), and which dimensions are rotated as a pair."""

    cos: Tensor
    sin: Tensor
    layout: str = "halves"

    def apply(self, x: Tensor) -> Tensor:
        """Rotate each pair (a, b) of the first R dimensions of every head to (a cos - b sin, b cos + a sin), equation
        34.

        (B, H, T, Dh) -> the same.
        """
        return rotate(x, self.cos.to(x.dtype), self.sin.to(x.dtype), self.layout)


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's way to longer inputs: low frequencies become `factor` times lower, high ones stay, with a ramp
    between.

    A frequency is low if its wavelength is above original_max_seq_len / low_freq_factor tokens, and high if its
    wavelength is below original_max_seq_len / high_freq_factor.
    >>> Llama3Scaling(8.0, 1.0, 4.0, original_max_seq_len=64).scale(torch.tensor([1.0, 0.08]))
    tensor([1.0000, 0.0100])
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_seq_len: int

    def __post_init__(self) -> None:
        check_positive(factor=self.factor, low_freq_factor=self.low_freq_factor, high_freq_factor=self.high_freq_factor)
        check_sizes(original_max_seq_len=self.original_max_seq_len)
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                f"low_freq_factor {self.low_freq_factor} must be below high_freq_factor {self.high_freq_factor}"
            )

    def scale(self, frequencies: Tensor) -> Tensor:
        """Radians per token, any shape -> the same."""
        turns = self.original_max_seq_len * frequencies / (2 * math.pi)  # wavelengths within the original length
        ramp = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = ramp.clamp(0, 1)
        return frequencies * (kept + (1 - kept) / self.factor)


@dataclass(frozen=True)
class LinearScaling:
    """Position interpolation (Chen et al. 2023): every frequency becomes `factor` times lower.
    >>> LinearScaling(4.0).scale(torch.tensor([1.0, 0.1]))
    tensor([0.2500, 0.0250])
    """

    factor: float

    def __post_init__(self) -> None:
        check_positive(factor=self.factor)

    def scale(self, frequencies: Tensor) -> Tensor:
        """Radians per token, any shape -> the same."""
        return frequencies / self.factor


@dataclass(frozen=True)
class YarnScaling:
    """YaRN (Peng et al. 2023): high frequencies stay, low ones become `factor` times lower, with a ramp between them.
    Rotated queries and keys are multiplied by `attention_factor`.

    A pair that makes `beta_fast` rotations within the original length has a high frequency, one that makes `beta_slow`
    a low one. The ramp ends at whole pairs if `truncate`. If attention_factor is None, it is the paper's value for the
    factor, 0.1 ln(factor) + 1.
    >>> YarnScaling(4.0, original_max_seq_len=64).scale(torch.tensor([1.0, 0.1, 0.01]))
    tensor([1.0000, 0.0625, 0.0025])
    """

    factor: float
    original_max_seq_len: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        check_positive(factor=self.factor, beta_fast=self.beta_fast, beta_slow=self.beta_slow)
        check_positive(attention_factor=self.attention_factor, optional=True)
        check_sizes(original_max_seq_len=self.original_max_seq_len)
        check_flags(truncate=self.truncate)

    @property
    def growth(self) -> float:
        """The factor of each rotated query and key."""
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(max(self.factor, 1.0)) + 1

    def scale(self, frequencies: Tensor) -> Tensor:
        """Radians per token of all pairs, (R/2,) with R at least 4 -> the same."""
        n = frequencies.numel()
        step = (frequencies[0] / frequencies[1]).log()  # from each pair to the next
        turns = self.original_max_seq_len * frequencies[0] / (2 * math.pi)  # of the first pair
        low, high = ((turns / beta).log() / step for beta in (self.beta_fast, self.beta_slow))
        if self.truncate:
            low, high = low.floor(), high.ceil()
        low, high = low.clamp_min(0), high.clamp_max(2 * n - 1)
        pairs = torch.arange(n, device=frequencies.device)
        slowed = ((pairs - low) / torch.where(high == low, 1e-3, high - low)).clamp(0, 1)
        return frequencies * (1 - slowed + slowed / self.factor)


Scaling = Llama3Scaling | LinearScaling | YarnScaling


class RotaryPositions(Tables):
    """The rotation of each position: pair i at position m is rotated by m * base^(-2i / dim).
    >>> RotaryPositions(4)(1, 2).sin  # of 1 and 1/100
    tensor([[0.8415, 0.0100]])

    Args:
        head_dim: width of a head.
        base: base of the frequencies, 10000 in the paper.
        dim: how many of a head's dimensions are rotated, an even number; None: all.
        layout: which dimensions are a pair: i and i + dim / 2 ("halves", as in GPT-NeoX and Llama), or 2i and 2i + 1
            ("interleaved", as in the paper and GPT-J).
        scaling: changes the frequencies; YaRN also scales the rotated vectors.
        table_size: number of positions whose rotation is computed once; others are computed when they are needed.

    Raises:
        ValueError: dim is odd or wider than the head, YaRN has only one pair, or there is no such layout.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        head_dim: int,
        *,
        base: float = 10000.0,
        dim: int | None = None,
        layout: str = "halves",
        scaling: Scaling | None = None,
        table_size: int = 1024,
    ) -> None:
        super().__init__()
        check_sizes(head_dim=head_dim)
        check_sizes(dim=dim, optional=True)
        check_positive(base=base)
        check_choice(ROTARY_LAYOUTS, layout=layout)
        check_sizes(table_size=table_size, least=0)
        if not isinstance(scaling, Scaling | None):
            raise ValueError(f"scaling is {scaling!r}, expected one of the scalings of this module, or None")
        dim = head_dim if dim is None else dim
        if dim % 2 or not 0 < dim <= head_dim:
            raise ValueError(f"rotary dim {dim} must be even, above 0 and at most head_dim {head_dim}")
        if dim == 2 and isinstance(scaling, YarnScaling):
            raise ValueError(
                "YaRN needs a rotary dim of 4 or more: it scales each pair by how it turns beside the others"
            )
        if base <= 1 and isinstance(scaling, YarnScaling):
            raise ValueError(f"base is {base}, and must be above 1 for YaRN")
        self.base, self.dim, self.layout, self.scaling = base, dim, layout, scaling
        self.table_size = table_size
        self.compute_tables()

    def tables(self, device: torch.device | None) -> dict[str, Tensor]:
        """Cosines and sines of the first positions, each (table_size, R/2)."""
        cos, sin = self._waves(torch.arange(self.table_size, device=device))
        return {"cos": cos, "sin": sin}

    def frequencies(self, device: torch.device | None = None, *, scaled: bool = True) -> Tensor:
        """Radians per token of each pair, (R/2,) float64."""
        exponents = torch.arange(0, self.dim, 2, device=device, dtype=torch.float64) / self.dim
        frequencies = self.base**-exponents
        return self.scaling.scale(frequencies) if scaled and self.scaling is not None else frequencies

    def _waves(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Integers (..., ) -> cosines and sines, (..., R/2) float32; angles are computed in float64."""
        home = with_float64(positions.device)
        angles = positions.to(home)[..., None].double() * self.frequencies(home)
        growth = self.scaling.growth if isinstance(self.scaling, YarnScaling) else 1.0
        cos, sin = angles.cos() * growth, angles.sin() * growth
        return cos.float().to(positions.device), sin.float().to(positions.device)

    def turn(self, x: Tensor, start: int, positions: Tensor | None) -> Rotation:
        """The rotations of x (B, T, D), at positions start, start + 1, ..., or at the given positions (B, T)."""
        if self.cos.device != x.device:
            self.bring_to(x.device)
        rotation: Rotation = self(start, start + x.size(1), positions)
        return rotation

    def forward(self, start: int, stop: int, positions: Tensor | None = None) -> Rotation:
        """In float32, of positions start to stop - 1, (T, R/2); or of the given positions (B, T), (B, 1, T, R/2)."""
        if positions is not None:
            cos, sin = self._waves(positions)
            return Rotation(cos.unsqueeze(-3), sin.unsqueeze(-3), self.layout)
        if stop > self.cos.size(0):
            cos, sin = self._waves(torch.arange(start, stop, device=self.cos.device))
            return Rotation(cos, sin, self.layout)
        return Rotation(self.cos[start:stop], self.sin[start:stop], self.layout)
