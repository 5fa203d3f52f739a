"""Windows of tokens as batches: a pure function of seed, epoch and number, for corpora of any size.

A model must predict the next token, or some hidden tokens: masked language modelling (Devlin et al. 2019).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from transformer_zoo.data.batching import Tensors
from transformer_zoo.data.token_file import TokenFile
from transformer_zoo.errors import UserError

IGNORED = -1  # a target that does not count
Place = tuple[int, int]  # epoch and number of a batch
_ROUNDS = 6
_MASK, _RANDOM = 0.8, 0.1  # shares of the tokens chosen for guessing; the rest stays unchanged (section 3.1)


@dataclass(frozen=True)
class TokenBatch(Tensors):
    """Some windows, all int64 (B, T): `targets` is `ids` moved on by one token, `IGNORED` where there is none.

    With packed documents, `documents` numbers the documents of each window from 0, and `positions` counts from each
    one's start; both are None otherwise. n_tokens counts the targets that are not ignored.
    >>> next(Windows(tokens, 8).evaluation(batch_size=1)).n_tokens
    8
    """

    ids: torch.Tensor
    targets: torch.Tensor
    documents: torch.Tensor | None
    positions: torch.Tensor | None
    n_tokens: int


class Windows:
    """Cuts a split into windows of `length` tokens, each with the next tokens as its targets.

    With `packed_documents`, attention must be blocked between documents. An end-of-text token opens the document that
    follows it: it has position 0, and the first token is predicted from it, as when a model writes without a prompt.
    The rest of a document that began before the window counts as a document of its own.
    >>> next(Windows(tokens, 8).evaluation(batch_size=2)).ids.shape
    torch.Size([2, 8])

    Raises:
        UserError: the split is shorter than one window, or there is no end-of-text token to separate documents.
    """

    def __init__(self, tokens: TokenFile, length: int, *, packed_documents: bool = False) -> None:
        if packed_documents and tokens.eos_id is None:
            raise UserError("packed_documents: the tokenizer has no end of text that would tell documents apart")
        self.tokens, self.length, self.packed_documents = tokens, length, packed_documents

    def __len__(self) -> int:
        """Windows of one training epoch."""
        return self.tokens.n_tokens // self.length

    def plan(self, epoch: int, *, batch_size: int) -> list[Place]:
        """The batches of one epoch of training, for `load`; the last may be smaller.

        The split is treated as a ring. An epoch cuts it from a random position on. So every token is a target once,
        except for less than one window, and no token is a target twice.

        Raises:
            UserError: the split is shorter than one window.
        """
        if self.tokens.n_tokens <= self.length:
            raise UserError(
                f"split {self.tokens.split!r} has {self.tokens.n_tokens:,} tokens, less than a window of {self.length} "
                "and its targets; give more text or a shorter length"
            )
        return [(epoch, number) for number in range(-(-len(self) // batch_size))]

    def load(self, place: Place, *, batch_size: int, seed: int) -> TokenBatch:
        """One batch of `plan`: a pure function of the arguments."""
        places = self.places(place, batch_size=batch_size, seed=seed)
        return self._batch(self.tokens.take(places).astype(np.int64))

    def places(self, place: Place, *, batch_size: int, seed: int) -> NDArray[np.int64]:
        """Indices of the tokens of a batch's windows, and of the token after each, (B, length + 1)."""
        epoch, number = place
        offset = _draw(seed, epoch, self.tokens.n_tokens)
        numbers = np.arange(number * batch_size, min((number + 1) * batch_size, len(self)))
        starts = offset + permute(numbers, len(self), seed=seed, epoch=epoch) * self.length
        return (starts[:, None] + np.arange(self.length + 1)) % self.tokens.n_tokens

    def evaluation(self, *, batch_size: int) -> Iterator[TokenBatch]:
        """The whole split in order: every token except the first is a target once, and the last window is padded.

        A split of a single token has no batch.
        """
        n = self.tokens.n_tokens
        starts = np.arange(0, n - 1, self.length)
        for first in range(0, len(starts), batch_size):
            places = starts[first : first + batch_size, None] + np.arange(self.length + 1)
            rows = self.tokens.take(np.minimum(places, n - 1)).astype(np.int64)
            yield self._batch(np.where(places < n, rows, IGNORED))

    def _batch(self, rows: NDArray[np.int64]) -> TokenBatch:
        ids, targets = np.maximum(rows[:, :-1], 0), rows[:, 1:]
        documents = positions = None
        if self.packed_documents:
            opens = ids == self.tokens.eos_id
            documents = torch.from_numpy(opens.cumsum(axis=1))
            places = np.arange(self.length)
            positions = torch.from_numpy(places - np.maximum.accumulate(np.where(opens, places, 0), axis=1))
        return TokenBatch(
            ids=torch.from_numpy(np.ascontiguousarray(ids)),
            targets=torch.from_numpy(np.ascontiguousarray(targets)),
            documents=documents,
            positions=positions,
            n_tokens=int((targets != IGNORED).sum()),
        )


class MaskedWindows(Windows):
    """Cuts a split into windows of `length` tokens, some of which must be guessed; each epoch draws others.

    80 % of the chosen tokens are read as `mask_id`, 10 % as a random token, 10 % unchanged. `targets` are the chosen
    tokens themselves, and `IGNORED` elsewhere.
    >>> windows = MaskedWindows(tokens, 8, share=0.15, mask_id=257, vocab_size=257, special=[256])
    >>> windows.load((0, 0), batch_size=2, seed=1).ids.shape
    torch.Size([2, 8])

    Args:
        share: The probability of each ordinary token to be chosen.
        mask_id: The token that is read instead of a chosen one.
        vocab_size: Number of ids of the text.
        special: Ids that are never chosen nor drawn: end, begin and unknown tokens.
    """

    def __init__(
        self, tokens: TokenFile, length: int, *, share: float, mask_id: int, vocab_size: int, special: Collection[int]
    ) -> None:
        super().__init__(tokens, length)
        self.share, self.mask_id = share, mask_id
        self.is_ordinary = ~np.isin(np.arange(vocab_size), list(special))
        self.ordinary = np.flatnonzero(self.is_ordinary)

    def load(self, place: Place, *, batch_size: int, seed: int) -> TokenBatch:
        """One batch of `plan`: a pure function of the arguments, and for each token of its position in the text."""
        places = self.places(place, batch_size=batch_size, seed=seed)[:, :-1]  # (B, T)
        tokens = self.tokens.take(places).astype(np.int64)
        draw = uniform(places, seed=seed, epoch=place[0]) / self.share  # below 1: chosen
        chosen = self.is_ordinary[tokens] & (draw < 1)
        number = ((draw - _MASK) / _RANDOM * len(self.ordinary)).clip(0, len(self.ordinary) - 1)
        other = self.ordinary[number.astype(np.int64)]
        read = np.where(draw < _MASK, self.mask_id, np.where(draw < _MASK + _RANDOM, other, tokens))
        return TokenBatch(
            ids=torch.from_numpy(np.where(chosen, read, tokens)),
            targets=torch.from_numpy(np.where(chosen, tokens, IGNORED)),
            documents=None,
            positions=None,
            n_tokens=int(chosen.sum()),
        )

    def evaluation(self, *, batch_size: int) -> Iterator[TokenBatch]:
        """The split except for less than a window, always with the same tokens to guess, whatever the batches."""
        for place in self.plan(0, batch_size=batch_size):
            yield self.load(place, batch_size=batch_size, seed=0)


def permute(numbers: NDArray[np.int64], n: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The values of a random permutation of 0 .. n - 1 at these numbers, (N,), without storing the permutation.

    A Feistel network (Luby and Rackoff 1988) permutes the next power of 4. A value outside goes through it again until
    it is inside, which keeps it a permutation (Black and Rogaway 2002).
    """
    half = np.uint64((max(n - 1, 1).bit_length() + 1) // 2)
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = _keys(seed, epoch)

    def once(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> half, values & mask
        for key in keys:
            left, right = right, left ^ (_mix(right + key) & mask)
        return (left << half) | right

    values = once(numbers.astype(np.uint64))
    while (outside := values >= n).any():
        values[outside] = once(values[outside])
    return values.astype(np.int64)


def uniform(places: NDArray[np.int64], *, seed: int, epoch: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each position of a text, in their shape: draw number `place` of a SplitMix64."""
    start = _random(seed, epoch, 2).integers(1 << 63, dtype=np.uint64)
    bits = _mix(start + places.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of 64 bits: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


# All batches of an epoch need these, and a generator takes long to make.
@lru_cache(16)
def _draw(seed: int, epoch: int, n: int) -> int:
    return int(_random(seed, epoch, 0).integers(n))


@lru_cache(16)
def _keys(seed: int, epoch: int) -> tuple[np.uint64, ...]:
    return tuple(_random(seed, epoch, 1).integers(1 << 63, size=_ROUNDS, dtype=np.uint64))


def _random(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed % (1 << 32), epoch, purpose])
