"""Encoded corpora and batches: flat arrays, buckets by length, an order that depends on seed and epoch alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from transformer_zoo.data.parallel import CleaningReport, ParallelText
from transformer_zoo.data.tokenizers import BOS_ID, EOS_ID, PAD_ID, SentencePieceTokenizer, TranslationTokenizer
from transformer_zoo.errors import UserError

Indices = NDArray[np.int64]
_T = TypeVar("_T")
# Lines encoded at once: Python's lists of ints are ten times as large as the array they end in.
_CHUNK = 50_000


@dataclass(frozen=True)
class TokenArrays:
    """Many sequences of token ids in one flat array: sequence i is `flat[offsets[i] : offsets[i + 1]]`.

    uint16 (vocabularies of up to 65,536) or uint32; 4.5 million pairs of 30 tokens take about half a gigabyte.
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
        return self.flat[self.offsets[index] : self.offsets[index + 1]].tolist()

    def select(self, indices: Indices) -> "TokenArrays":
        """The sequences at these indices, in their order."""
        lengths = self.lengths[indices]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        return TokenArrays(self.flat[places], offsets)

    def padded(
        self, indices: Indices, *, prefix: int | None = None, suffix: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The sequences at these indices as (B, T) ids, PAD_ID on the right, and their (B, T) mask, True = real.

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
        cls, texts: Sequence[str], tokenizer: SentencePieceTokenizer, *, sample_alpha: float, seed: Sequence[int]
    ) -> "TokenArrays":
        """Encode all texts; `seed` matters only where `sample_alpha` is above 0."""
        dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
        flats, lengths = [np.empty(0, dtype)], [np.zeros(1, np.int64)]
        for start in range(0, len(texts), _CHUNK):
            chunk_seed = int(np.random.SeedSequence([*seed, start]).generate_state(1)[0])
            rows = tokenizer.encode_batch(texts[start : start + _CHUNK], sample_alpha=sample_alpha, seed=chunk_seed)
            lengths.append(np.fromiter(map(len, rows), np.int64, len(rows)))
            flats.append(np.fromiter(chain.from_iterable(rows), dtype, int(lengths[-1].sum())))
        return cls(np.concatenate(flats), np.cumsum(np.concatenate(lengths)))


@dataclass(frozen=True)
class EncodedCorpus:
    """Encoded pairs, without special tokens; `collate` adds them. Line numbers are those of the file the text came from."""

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
    """Encode both sides. With `sample_alpha` above 0 the pieces are drawn, a pure function of seed and epoch."""
    source, target = (
        TokenArrays.encode(lines, side, sample_alpha=sample_alpha, seed=(seed, epoch, number))
        for number, (lines, side) in enumerate(((text.source, tokenizer.source), (text.target, tokenizer.target)))
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

    Every pair is in exactly one batch, and a batch holds at most `batch_tokens` tokens a side, padding included
    (B * max(Ts) and B * max(Tt)). Pairs of like lengths go together; which ones, and the order of the batches, differ
    from epoch to epoch.

    Args:
        source_lengths: Source tokens of each pair, (N,).
        target_lengths: Target tokens of each pair, (N,).
        batch_tokens: The budget.
        seed: Seed of the run.
        epoch: Number of the epoch.
        line_numbers: Line each pair came from, for the error message, (N,).

    Raises:
        UserError: a pair is longer than the budget; its line is named.
    """
    generator = np.random.default_rng([seed, epoch])
    ties = generator.permutation(len(source_lengths))
    batches = _cut(source_lengths, target_lengths, ties, batch_tokens, line_numbers, first=generator.random())
    return [batches[i] for i in generator.permutation(len(batches))]


def evaluation_indices(
    source_lengths: Indices, target_lengths: Indices, *, batch_tokens: int, line_numbers: Indices | None = None
) -> list[Indices]:
    """As `batch_indices`, but in one fixed order, from short to long, every pair exactly once."""
    ties = np.arange(len(source_lengths))
    return _cut(source_lengths, target_lengths, ties, batch_tokens, line_numbers, first=1.0)


def rank_slice(batches: Sequence[_T], rank: int, world_size: int) -> list[_T]:
    """The batches of one rank: every `world_size`-th, so that all ranks make the same number of updates.

    Together the ranks cover each batch once, but for the last `len(batches) % world_size`, which this epoch leaves out
    (they are others in the next, because the order is random).

    Raises:
        UserError: there are fewer batches than ranks.
    """
    if len(batches) < world_size:
        raise UserError(f"batch_tokens: the corpus makes {len(batches)} batches, too few for {world_size} ranks; lower it")
    return list(batches[rank : len(batches) - len(batches) % world_size : world_size])


def _cut(
    source_lengths: Indices,
    target_lengths: Indices,
    ties: Indices,
    batch_tokens: int,
    line_numbers: Indices | None,
    *,
    first: float,
) -> list[Indices]:
    """Sort by length and cut where the budget is full; equal lengths keep the order of `ties`.

    The first batch gets the share `first` of the budget, which moves all cuts.
    """
    longest = np.maximum(source_lengths, target_lengths)
    if len(longest) and longest.max() > batch_tokens:
        worst = int(longest.argmax())
        line = worst + 1 if line_numbers is None else line_numbers[worst]
        raise UserError(
            f"batch_tokens: line {line} has {longest[worst]} tokens, more than the budget of {batch_tokens}; "
            "raise batch_tokens or lower max_tokens"
        )
    # By target length, and inside one target length by source length, upwards and downwards in turn, so that a batch
    # that spans two target lengths finds like sources on both sides of the border.
    zigzag = np.where(target_lengths % 2 == 0, source_lengths, -source_lengths)
    order = ties[np.lexsort((zigzag[ties], target_lengths[ties]))]
    longest = longest[order]
    batches, start, budget = [], 0, max(int(first * batch_tokens), 1)
    while start < len(order):
        window = longest[start : start + max(budget // int(longest[start]), 1)]
        cost = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)
        stop = start + max(int(np.searchsorted(cost, budget, side="right")), 1)
        batches.append(order[start:stop])
        start, budget = stop, batch_tokens
    return batches


@dataclass(frozen=True)
class Batch:
    """One batch of pairs, int64 ids and boolean masks (True = real token); a mask is None where nothing is padded.

    source (B, Ts) ends in eos, target_in (B, Tt) = bos + y, target_out (B, Tt) = y + eos; target_mask fits both.
    n_tokens counts the real tokens of target_out, eos included.
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
        moved = {name: function(value) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **moved)


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
