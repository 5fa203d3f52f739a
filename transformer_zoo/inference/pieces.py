"""Lines that were cut into pieces, the translations of the pieces, and how pieces are batched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from transformer_zoo.config import BeamSearch
from transformer_zoo.errors import UserError

_LINES = 2**32  # more than there can ever be


@dataclass(frozen=True)
class Translation:
    """A translated line.

    If a line was cut, all numbers are sums over its pieces. They are nan if scores were not asked for.
    >>> next(translate_n_best(translator, pair, ["ja"], BeamSearch(max_extra=3)))[0].log_prob < 0
    True

    Args:
        text: The translation.
        log_prob: Its log-probability as `score` computes it; for a continuation, as the search counts it.
        search_log_prob: The log-probability of the tokens that the search found, which need not be the tokens that the
            tokenizer makes of the text. After a prefix it counts only what follows.
        search_score: search_log_prob over the length penalty.
        is_cut: It, or a piece of it, did not end by itself within the limit of `max_extra`; see `Hypothesis`.
        tokens: The tokens that the search found, with the tag of a language, without the end. The tokenizer may cut the
            text into others.
    """

    text: str
    log_prob: float
    search_log_prob: float
    search_score: float
    is_cut: bool = False
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How lines become batches. None of it changes an answer, except for what `dtype` rounds.
    >>> [answer] = translate(translator, pair, ["ja"], batching=Batching(window=1))

    Args:
        batch_tokens: Size of a batch: lines x beam x (longest line + max_extra) stays within it, and memory grows with
            it. By default 32,768 on a CPU, 262,144 elsewhere.
        window: Number of lines that are read ahead and sorted by length; 1 answers every line before the next is read.
        dtype: Type of the matrix products: float32, or bfloat16 or float16 by autocast.

    Raises:
        UserError: a number is below 1.
    """

    batch_tokens: int | None = None
    window: int = 2048
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        for name, value in {"batch_tokens": self.batch_tokens, "window": self.window}.items():
            if value is not None and value < 1:
                raise UserError(f"{name} {value} must be at least 1")


@dataclass
class Piece:
    """A line, or a part of one, that the model takes as a whole."""

    ids: list[int]
    number: int  # of the line, from 1
    place: int  # in the line, from 0
    found: list[Translation] = field(default_factory=list)
    is_done: bool = False

    @property
    def draw(self) -> int:
        """The number to add to a seed. First parts of lines count up; other parts come after those of all lines."""
        return self.number - 1 + _LINES * self.place


@dataclass
class Line:
    """A line and its pieces."""

    number: int
    pieces: list[Piece]

    @property
    def is_done(self) -> bool:
        return all(piece.is_done for piece in self.pieces)


def join(first: Translation, then: Translation, between: str = " ") -> Translation:
    """The sum of two pieces of one text."""
    return Translation(
        f"{first.text}{between}{then.text}",
        first.log_prob + then.log_prob,
        first.search_log_prob + then.search_log_prob,
        first.search_score + then.search_score,
        is_cut=first.is_cut or then.is_cut,
        tokens=(*first.tokens, *then.tokens),
    )


def plan_batches(pieces: list[Piece], how: BeamSearch, batching: Batching) -> Iterator[list[Piece]]:
    """Batches of pieces with similar length, at least one in each, within `batch_tokens`."""
    batch: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: len(piece.ids)):
        room = (len(batch) + 1) * how.beam * (len(piece.ids) + how.max_extra)
        if batch and batching.batch_tokens is not None and room > batching.batch_tokens:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def ranks(found: Sequence[list[Translation]]) -> Iterator[list[Translation]]:
    """The best of each piece's translations, the second best, and so on. If a piece has fewer, its last one is used."""
    n = max(map(len, found))
    return ([one[min(rank, len(one) - 1)] for one in found] for rank in range(n))
