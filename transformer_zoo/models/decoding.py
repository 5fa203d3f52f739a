"""The decoding contract: what all code that writes text asks a model, whatever its kind.

Shapes: B rows, T tokens, D width, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from transformer_zoo.config import RulesSpec
from transformer_zoo.errors import UserError
from transformer_zoo.models.cache import DecoderCache


@dataclass(frozen=True)
class DecodingFacts:
    """What writing code must know about the texts of a model.
    >>> tz.create_model("gpt-nano").facts.context
    64

    Args:
        vocab_size: Number of tokens that the model can write.
        ends: Tokens that end a text.
        never: Tokens that no text contains, unless the caller allows them.
        context: Number of tokens of a text that the model can see at once.
        has_source: Texts answer a source that is read separately. Otherwise they continue a prompt and may outgrow
            context.
        rules: Rules of its configuration.
        forced_last_id: The token that ends an answer which reaches the length limit, at no cost; None: the answer is
            cut.
    """

    vocab_size: int
    ends: tuple[int, ...]
    never: tuple[int, ...]
    context: int
    has_source: bool
    rules: RulesSpec
    forced_last_id: int | None = None


class DecodingModel(Protocol):
    """A model that writes: it begins with prompts or sources, takes a step, and returns logits."""

    @property
    def config(self) -> Any: ...

    @property
    def facts(self) -> DecodingFacts: ...

    @property
    def head_weight(self) -> Tensor: ...

    def opening(self, given: Sequence[int]) -> list[int]:
        """What the answer to this prompt or source follows: the prompt itself, or the token that targets start with."""

    def begin(self, given: Sequence[Sequence[int]], capacity: int, *, static: bool = False) -> DecoderCache:
        """A cache for texts of up to `capacity` tokens that answer these prompts or sources. It reads the sources
        here."""

    def step(
        self,
        ids: Tensor,
        cache: DecoderCache,
        *,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        before: Tensor | None = None,
    ) -> Tensor:
        """Read the next tokens of each text into the cache: (B, T) ids -> (B, T, D).

        Args:
            ids: whole openings, padded on the left, or the tokens written since.
            mask: (B, tokens in the cache and these), True for a real one; None: all are real. With a static cache it
                covers the whole capacity.
            positions: broadcastable to (B, T); None: counted by the mask, or from the cache's length.
            attention_mask: booleans broadcastable to (B, H, T, Tk), used instead of causality. Each of the T tokens
                then continues another text.
            before: (B, T, N), the tokens before each of these, -1 for none; for a model that embeds n-grams.
        """

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""

    def eval(self) -> Any: ...

    def train(self, mode: bool = True) -> Any: ...

    @property
    def training(self) -> bool: ...


def check_decoding(model: Any, use: str) -> None:
    """Check that it is a model that writes. UserError: it is not; `use` names what it was needed for.
    >>> check_decoding(tz.create_model("transformer-tiny"), "generate")
    """
    if not all(hasattr(type(model), name) for name in ("facts", "opening", "begin", "step", "logits")):
        raise UserError(f"{use} takes a DecoderOnly or an EncoderDecoder, not a {type(model).__name__}")


def pad_rows(
    rows: Sequence[Sequence[int]], pad_id: int, *, left: bool = False, device: torch.device | None = None
) -> tuple[Tensor, Tensor | None]:
    """Rows of ids as one (B, T) tensor, padded on one side, and its mask (B, T), True for a real id; None: all are
    real.
    >>> pad_rows([[5, 7], [6]], pad_id=0)[0].tolist()
    [[5, 7], [6, 0]]
    """
    longest = max(map(len, rows), default=0)

    def filled(row: list[Any], fill: Any) -> list[Any]:
        missing = [fill] * (longest - len(row))
        return [*missing, *row] if left else [*row, *missing]

    ids = torch.tensor([filled(list(row), pad_id) for row in rows], dtype=torch.int64, device=device)
    if all(len(row) == longest for row in rows):
        return ids, None
    return ids, torch.tensor([filled([True] * len(row), False) for row in rows], device=device)
