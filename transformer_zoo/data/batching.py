"""Encoded corpora and batches: flat arrays, buckets by length, an order set by seed and epoch alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from transformer_zoo.data.parallel import CleaningReport, ParallelText
from transformer_zoo.data.tokenizers import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    SentencePieceTokenizer,
    TranslationTokenizer,
)
from transformer_zoo.errors import UserError

Indices = NDArray[np.int64]
_T = TypeVar("_T")
# Lines encoded at once: Python's lists of ints are ten times as large as the array they end in.
_CHUNK = 50_000
# Batches in one strip of `_plan`, by trial: fewer pad the source, more the target, which costs more to compute.
_STRIP = 3


@dataclass(frozen=True)
class TokenArrays:
    """Many sequences of token ids in one flat array: sequence i is `flat[offsets[i] : offsets[i + 1]]`.

    uint16 (vocabularies of up to 65,536) or uint32: 4.5 million pairs of 30 tokens take 0.6 GB.
    """

    flat: NDArray[np.uint16] | NDArray[np.uint32]
    offsets: Indices

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Indices:
        """Length of each sequence, (N,)."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> list[int]:
        ids: list[int] = self.flat[self.offsets[index] : self.offsets[index + 1]].tolist()
        return ids

    def select(self, indices: Indices) -> "TokenArrays":
        """The sequences at these indices, in their order."""
        lengths = self.lengths[indices]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        return TokenArrays(self.flat[places], offsets)

    def padded(
        self, indices: Indices, *, prefix: int | None = None, suffix: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """These sequences as (B, T) ids, PAD_ID on the right, and their (B, T) mask, True = real token.

        `prefix` goes before each sequence, `suffix` right behind its last token.
        """
        before, after = prefix is not None, suffix is not None
        starts, lengths = self.offsets[indices], self.lengths[indices]
        steps = np.arange(lengths.max(initial=0))
        real = steps < lengths[:, None]  # (B, T)
        ids = np.full((len(indices), len(steps) + before + after), PAD_ID, np.int64)
        ids[:, before : before + len(steps)][real] = self.flat[(starts[:, None] + steps)[real]]
        if prefix is not None:
            ids[:, 0] = prefix
        if suffix is not None:
            ids[np.arange(len(indices)), lengths + before] = suffix
        return ids, np.arange(ids.shape[1]) < (lengths + before + after)[:, None]

    @classmethod
    def encode(
        cls,
        texts: Sequence[str],
        tokenizer: SentencePieceTokenizer,
        *,
        sample_alpha: float = 0.0,
        seed: Sequence[int] = (),
    ) -> "TokenArrays":
        """Encode all texts; `seed` matters only where `sample_alpha` is above 0."""
        dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
        flats, lengths = [np.empty(0, dtype)], [np.zeros(1, np.int64)]
        for start in range(0, len(texts), _CHUNK):
            chunk_seed = int(np.random.SeedSequence([*seed, start]).generate_state(1)[0])
            chunk = texts[start : start + _CHUNK]
            rows = tokenizer.encode_batch(chunk, sample_alpha=sample_alpha, seed=chunk_seed)
            lengths.append(np.fromiter(map(len, rows), np.int64, len(rows)))
            flats.append(np.fromiter(chain.from_iterable(rows), dtype, int(lengths[-1].sum())))
        return cls(np.concatenate(flats), np.cumsum(np.concatenate(lengths)))


@dataclass(frozen=True)
class EncodedCorpus:
    """Encoded pairs, without special tokens: `collate` adds them. `line_numbers` is that of `ParallelText`."""

    source: TokenArrays
    target: TokenArrays
    name: str
    line_numbers: Indices

    def __len__(self) -> int:
        return len(self.source)

    @property
    def source_lengths(self) -> Indices:
        """Source tokens of each pair, eos included, (N,)."""
        return self.source.lengths + 1

    @property
    def target_lengths(self) -> Indices:
        """Target tokens of each pair, one special token included (bos going in, eos coming out), (N,)."""
        return self.target.lengths + 1

    def select(self, indices: Indices) -> "EncodedCorpus":
        """The pairs at these indices, in their order."""
        return EncodedCorpus(
            self.source.select(indices), self.target.select(indices), self.name, self.line_numbers[indices]
        )


def encode_corpus(
    text: ParallelText,
    tokenizer: TranslationTokenizer,
    *,
    sample_alpha: float = 0.0,
    seed: int = 0,
    epoch: int = 0,
) -> EncodedCorpus:
    """Encode both sides.

    With `sample_alpha` above 0 the pieces are drawn, a pure function of seed and epoch; so each epoch is
    encoded anew.
    """
    sides = ((text.source, tokenizer.source), (text.target, tokenizer.target))
    source, target = (
        TokenArrays.encode(lines, side, sample_alpha=sample_alpha, seed=(seed % (1 << 32), epoch, number))
        for number, (lines, side) in enumerate(sides)
    )
    return EncodedCorpus(source, target, text.name, text.line_numbers)


def drop_overlong(corpus: EncodedCorpus, max_tokens: int) -> tuple[EncodedCorpus, CleaningReport]:
    """Drop pairs with a side of more than `max_tokens` tokens, its one special token included.

    Raises:
        UserError: nothing is left.
    """
    keep = np.maximum(corpus.source_lengths, corpus.target_lengths) <= max_tokens
    dropped = {f"of more than {max_tokens} tokens": corpus.line_numbers[~keep]}
    report = CleaningReport(corpus.name, len(corpus), dropped)
    if not keep.any():
        raise UserError(f"no pair is left to train on, raise max_tokens: {report}")
    return (corpus if keep.all() else corpus.select(np.flatnonzero(keep))), report


def batch_indices(
    source_lengths: Indices,
    target_lengths: Indices,
    *,
    batch_tokens: int,
    seed: int,
    epoch: int,
    line_numbers: Indices | None = None,
) -> list[Indices]:
    """Batches of one training epoch, in random order: a pure function of the arguments.

    Every pair is in exactly one batch, and a batch holds at most `batch_tokens` tokens a side, padding
    included: B * max(Ts) and B * max(Tt). Pairs of like lengths go together; which ones, and the order of the
    batches, differ from epoch to epoch. At 4,096 tokens Multi30k's 29,000 pairs are padded by 1.3% on the
    target side and 8% on the source side, Tatoeba's 170,000 by 0.4% and 3%.

    Args:
        source_lengths: Source tokens of each pair, (N,).
        target_lengths: Target tokens of each pair, (N,).
        batch_tokens: The budget.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        line_numbers: Line each pair came from, for the error message, (N,).

    Raises:
        UserError: a pair is longer than the budget; its line is named.
    """
    random = np.random.default_rng([seed % (1 << 32), epoch])
    batches = _plan(source_lengths, target_lengths, batch_tokens, line_numbers, random)
    return [batches[i] for i in random.permutation(len(batches))]


def evaluation_indices(
    source_lengths: Indices,
    target_lengths: Indices,
    *,
    batch_tokens: int,
    line_numbers: Indices | None = None,
) -> list[Indices]:
    """As `batch_indices`, but in one fixed order, from short to long."""
    return _plan(source_lengths, target_lengths, batch_tokens, line_numbers, random=None)


def rank_slice(batches: Sequence[_T], rank: int, world_size: int) -> list[_T]:
    """The batches of one rank: every `world_size`-th, so that all ranks make the same number of updates.

    Together the ranks cover each batch once, but for the last `len(batches) % world_size`. This epoch leaves
    those out; the next leaves out others, because the order is random.

    Raises:
        UserError: there are fewer batches than ranks.
    """
    if len(batches) < world_size:
        raise UserError(
            f"batch_tokens: only {len(batches)} batches for {world_size} ranks; lower batch_tokens"
        )
    return list(batches[rank : len(batches) - len(batches) % world_size : world_size])


def _plan(
    source_lengths: Indices,
    target_lengths: Indices,
    batch_tokens: int,
    line_numbers: Indices | None,
    random: np.random.Generator | None,
) -> list[Indices]:
    """Sort pairs by length, then cut where the budget is full. `random` shuffles equals and moves the cuts.

    Sorting by one side alone pads the other. So the target lengths are grouped into strips of some batches
    each, and a strip is sorted by source length, upwards and downwards in turn: a batch across the border of two
    strips finds like sources on both sides.
    """
    longest = np.maximum(source_lengths, target_lengths)
    if not len(longest):
        return []
    if longest.max() > batch_tokens:
        worst = int(longest.argmax())
        line = worst + 1 if line_numbers is None else line_numbers[worst]
        raise UserError(
            f"batch_tokens: line {line} has {longest[worst]} tokens, more than the budget of {batch_tokens}; "
            "raise batch_tokens or lower max_tokens"
        )
    ties = np.arange(len(longest)) if random is None else random.permutation(len(longest))
    shift, first = (0.0, 1.0) if random is None else random.random(2)
    tokens = np.bincount(target_lengths, weights=longest)  # by target length
    strips = ((tokens.cumsum() - tokens) / (_STRIP * batch_tokens) + shift).astype(np.int64)
    strip = strips[target_lengths]
    zigzag = np.where(strip % 2 == 0, source_lengths, -source_lengths)
    order = ties[np.lexsort((zigzag[ties], strip[ties]))]
    return _cut(order, longest[order], batch_tokens, first=max(int(first * batch_tokens), 1))


def _cut(order: Indices, lengths: Indices, batch_tokens: int, *, first: int) -> list[Indices]:
    """Cut `order` so that count * max(lengths) of each part is within the budget; `first` is that of the first."""
    batches, start, budget = [], 0, first
    while start < len(order):
        window = lengths[start : start + max(budget // int(lengths[start]), 1)]
        cost = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)
        stop = start + max(int(np.searchsorted(cost, budget, side="right")), 1)
        batches.append(order[start:stop])
        start, budget = stop, batch_tokens
    return batches


@dataclass(frozen=True)
class Batch:
    """Some pairs: int64 ids and boolean masks, True = real token; a mask is None where nothing is padded.

    source (B, Ts) ends in eos, target_in (B, Tt) is bos + y, target_out (B, Tt) is y + eos; target_mask fits
    both. n_tokens counts the real tokens of target_out, eos included.
    """

    source: torch.Tensor
    source_mask: torch.Tensor | None
    target_in: torch.Tensor
    target_out: torch.Tensor
    target_mask: torch.Tensor | None
    n_tokens: int

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory, from where copies to a GPU can be asynchronous."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        return Batch(
            source=function(self.source),
            source_mask=None if self.source_mask is None else function(self.source_mask),
            target_in=function(self.target_in),
            target_out=function(self.target_out),
            target_mask=None if self.target_mask is None else function(self.target_mask),
            n_tokens=self.n_tokens,
        )


def collate(corpus: EncodedCorpus, indices: Indices, *, pin_memory: bool = False) -> Batch:
    """The pairs at these indices as tensors."""
    source, source_mask = corpus.source.padded(indices, suffix=EOS_ID)
    target_in, target_mask = corpus.target.padded(indices, prefix=BOS_ID)
    target_out, _ = corpus.target.padded(indices, suffix=EOS_ID)
    batch = Batch(
        source=torch.from_numpy(source),
        source_mask=None if source_mask.all() else torch.from_numpy(source_mask),
        target_in=torch.from_numpy(target_in),
        target_out=torch.from_numpy(target_out),
        target_mask=None if target_mask.all() else torch.from_numpy(target_mask),
        n_tokens=int(target_mask.sum()),
    )
    return batch.pin_memory() if pin_memory else batch
