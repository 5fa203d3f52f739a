"""How a model knows where a token stands."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from transformer_zoo.config.spec import Context, Spec
from transformer_zoo.errors import UserError


class PositionsSpec(Spec):
    """Base of all kinds of positions.

    Some are `added` to the embedding of a token, some rotate queries and keys (`turns`), others are scores. Some are
    `bounded`: they end at the model's `max_seq_len`.
    """

    added: ClassVar[bool] = False
    turns: ClassVar[bool] = False
    bounded: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class LearnedSpec(PositionsSpec):
    """A learned embedding for each position, added to the token's embedding (GPT, BERT).
    >>> config = tz.get_config("transformer-tiny", positions=LearnedSpec())
    """

    module = "transformer_zoo.blocks.positions:LearnedPositions"
    takes = ("d_model", "max_seq_len")
    added = bounded = True

    offset: int = 0
    """The position of the first token."""


@dataclass(frozen=True, kw_only=True)
class SinusoidalSpec(PositionsSpec):
    """Fixed sinusoids, added to the token's embedding (the paper's section 3.5).
    >>> config = tz.get_config("gpt-nano", positions=SinusoidalSpec(layout="halves"))
    """

    module = "transformer_zoo.blocks.positions:SinusoidalPositions"
    takes = ("d_model", "table_size")
    added = True

    layout: Literal["interleaved", "halves", "halves_inclusive"] = "interleaved"
    """"interleaved" sine and cosine as in the paper, or concatenated "halves" as in Marian. "halves_inclusive" has a
    last frequency exactly 10000 times lower than the first, as in fairseq."""
    offset: int = 0
    """The position of the first token."""
    blank: int | None = None
    """The position, from 0, whose vector is zero, as in XGLM with a pad other than 1; None: there is none."""


@dataclass(frozen=True, kw_only=True)
class ScalingSpec(Spec):
    """Base of all ways to longer inputs than were trained on. They lower rotary frequencies."""

    factor: float = 8.0
    """Factor by which frequencies are lowered."""


@dataclass(frozen=True, kw_only=True)
class LinearSpec(ScalingSpec):
    """All frequencies become lower (Chen et al. 2023).
    >>> config = tz.get_config("gpt-nano", positions=RotarySpec(scaling=LinearSpec(factor=4.0)))
    """

    module = "transformer_zoo.blocks.rotary:LinearScaling"


@dataclass(frozen=True, kw_only=True)
class Llama3Spec(ScalingSpec):
    """Low frequencies become lower, high ones do not, as in Llama 3.1.
    >>> config = tz.get_config("gpt-nano", positions=RotarySpec(scaling=Llama3Spec(factor=8.0)))
    """

    module = "transformer_zoo.blocks.rotary:Llama3Scaling"

    low_freq_factor: float = 1.0
    """Frequencies with a wavelength above `original_max_seq_len` / this are lowered in full."""
    high_freq_factor: float = 4.0
    """Frequencies with a wavelength below `original_max_seq_len` / this are left alone."""
    original_max_seq_len: int = 8192
    """The input length before scaling."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.low_freq_factor, self.high_freq_factor
        if low >= high:
            raise UserError(f"low_freq_factor {low} must be below high_freq_factor {high}")


@dataclass(frozen=True, kw_only=True)
class YarnSpec(ScalingSpec):
    """Low frequencies become lower, high ones do not, and rotated vectors become longer (Peng et al. 2023).
    >>> config = tz.get_config("gpt-nano", positions=RotarySpec(scaling=YarnSpec(factor=4.0)))
    """

    module = "transformer_zoo.blocks.rotary:YarnScaling"

    original_max_seq_len: int = 8192
    """The input length before scaling."""
    beta_fast: float = 32.0
    """Pairs that make more rotations within `original_max_seq_len` are left alone."""
    beta_slow: float = 1.0
    """Pairs that make fewer rotations are lowered in full."""
    attention_factor: float | None = None
    """Factor of rotated queries and keys; None: 0.1 ln(factor) + 1."""
    truncate: bool = True
    """Whether the ramp between the two ends at whole pairs of dimensions."""


@dataclass(frozen=True, kw_only=True)
class RotarySpec(PositionsSpec):
    """Rotated queries and keys (Su et al. 2021).
    >>> config = tz.get_config("gpt-nano", positions=RotarySpec(base=5e5))
    """

    module = "transformer_zoo.blocks.rotary:RotaryPositions"
    takes = ("head_dim", "table_size")
    turns = True

    base: float = 10000.0
    """Base of the frequencies; a larger base means lower frequencies."""
    dim: int | None = None
    """Number of a head's dimensions that are rotated; None: all."""
    layout: Literal["halves", "interleaved"] = "halves"
    """Which two dimensions are a pair: i and i + dim / 2 ("halves"), or 2i and 2i + 1 ("interleaved")."""
    scaling: ScalingSpec | None = None
    """The way to longer inputs than were trained on."""

    def check(self, context: Context) -> None:
        dim = self.dim or context.head_dim
        if dim % 2 or dim > context.head_dim:
            name = "head_dim" if self.dim is None else "positions.dim"
            raise UserError(f"{name} {dim} must be even, and at most head_dim {context.head_dim}, for rotary positions")
        if isinstance(self.scaling, YarnSpec) and dim == 2:
            raise UserError("yarn needs 4 dimensions of a head that rotate, or more")
        if isinstance(self.scaling, YarnSpec) and self.base <= 1:
            raise UserError(f"positions.base {self.base} must be above 1 for yarn")


@dataclass(frozen=True, kw_only=True)
class AlibiSpec(PositionsSpec):
    """Scores that fall with the distance (Press et al. 2022).
    >>> config = tz.get_config("gpt-nano", positions=AlibiSpec())
    """

    module = "transformer_zoo.blocks.relative_bias:AlibiBias"
    takes = ("n_heads",)


@dataclass(frozen=True, kw_only=True)
class RelativeSpec(PositionsSpec):
    """Scores of each head that are learned by distance (Raffel et al. 2020, T5).
    >>> config = tz.get_config("transformer-tiny", positions=RelativeSpec(buckets=16))
    """

    module = "transformer_zoo.blocks.relative_bias:RelativeBias"
    takes = ("n_heads", "bidirectional")

    buckets: int = 32
    """Number of learned scores of each head; in an encoder half of them are for later tokens."""
    max_distance: int = 128
    """All distances from this one on have the same score."""

    def check(self, context: Context) -> None:
        parts = 4 if context.bidirectional else 2
        exact = self.buckets // parts
        if not 1 <= exact < self.max_distance:
            raise UserError(
                f"positions.buckets {self.buckets} must be at least {parts}, and positions.max_distance "
                f"{self.max_distance} more than {exact}, the distances with a bucket of their own"
            )
