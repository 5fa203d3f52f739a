"""Encoded corpora: millions of pairs of token ids in flat arrays."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from transformer_zoo.data.cleaning import CleaningReport
from transformer_zoo.data.parallel import ParallelText
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.settings import PAD_ID
from transformer_zoo.tokenizers.tokenizer import Tokenizer
from transformer_zoo.tokenizers.translation import TranslationTokenizer

Indices = NDArray[np.int64]
# Number of lines encoded at once: Python's lists of ints are ten times as large as the array that they end in.
_CHUNK = 50_000


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
        self, indices: Indices, *, prefix: int | None = None, suffix: int | None = None, pad_id: int = PAD_ID
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The sequences at these indices as (B, T) ids, `pad_id` on the right, and their (B, T) mask, True = real
        token.

        `prefix` goes before each sequence, `suffix` directly after its last token.
        """
        before, after = prefix is not None, suffix is not None
        starts, lengths = self.offsets[indices], self.lengths[indices]
        steps = np.arange(lengths.max(initial=0))
        real = steps < lengths[:, None]  # (B, T)
        ids = np.full((len(indices), len(steps) + before + after), pad_id, np.int64)
        ids[:, before : before + len(steps)][real] = self.flat[(starts[:, None] + steps)[real]]
        if prefix is not None:
            ids[:, 0] = prefix
        if suffix is not None:
            ids[np.arange(len(indices)), lengths + before] = suffix
        return ids, np.arange(ids.shape[1]) < (lengths + before + after)[:, None]

    @classmethod
    def encode(
        cls, texts: Sequence[str], tokenizer: Tokenizer, *, sample_alpha: float = 0.0, seed: Sequence[int] = ()
    ) -> "TokenArrays":
        """Encode all texts; `seed` matters only if `sample_alpha` is above 0. UserError: the tokenizer cannot
        sample."""
        dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
        flats, lengths = [np.empty(0, dtype)], [np.zeros(1, np.int64)]
        for start in range(0, len(texts), _CHUNK):
            chunk = texts[start : start + _CHUNK]
            if sample_alpha:
                chunk_seed = int(np.random.SeedSequence([*seed, start]).generate_state(1)[0])
                rows = tokenizer.draw(chunk, alpha=sample_alpha, seed=chunk_seed)
            else:
                rows = tokenizer.encode_batch(chunk)
            lengths.append(np.fromiter(map(len, rows), np.int64, len(rows)))
            flats.append(np.fromiter(chain.from_iterable(rows), dtype, int(lengths[-1].sum())))
        return cls(np.concatenate(flats), np.cumsum(np.concatenate(lengths)))


@dataclass(frozen=True)
class EncodedCorpus:
    """Encoded pairs without special tokens; `collate` adds them. `line_numbers` are as in `ParallelText`."""

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

    @property
    def checksum(self) -> str:
        """Checksum of all tokens and of the offsets."""
        arrays = (array for side in (self.source, self.target) for array in (side.flat, side.offsets))
        return f"{reduce(lambda crc, array: zlib.crc32(array.data, crc), arrays, 0):08x}"

    def select(self, indices: Indices) -> "EncodedCorpus":
        """The pairs at these indices, in their order."""
        return EncodedCorpus(
            self.source.select(indices), self.target.select(indices), self.name, self.line_numbers[indices]
        )


def encode_corpus(
    text: ParallelText, tokenizer: TranslationTokenizer, *, sample_alpha: float = 0.0, seed: int = 0, epoch: int = 0
) -> EncodedCorpus:
    """Encode both sides.

    With `sample_alpha` above 0 the pieces are drawn, as a pure function of seed and epoch. So each epoch is encoded
    again.
    >>> encode_corpus(text, pair).target[1]
    [114, 115]
    """
    sides = ((text.source, tokenizer.source), (text.target, tokenizer.target))
    source, target = (
        TokenArrays.encode(lines, side, sample_alpha=sample_alpha, seed=(seed % (1 << 32), epoch, number))
        for number, (lines, side) in enumerate(sides)
    )
    return EncodedCorpus(source, target, text.name, text.line_numbers)


def drop_overlong(corpus: EncodedCorpus, max_tokens: int) -> tuple[EncodedCorpus, CleaningReport]:
    """Drop pairs with more than `max_tokens` tokens on a side, its one special token included.

    Raises:
        UserError: no pair is left.
    """
    keep = np.maximum(corpus.source_lengths, corpus.target_lengths) <= max_tokens
    dropped = {f"of more than {max_tokens} tokens": corpus.line_numbers[~keep]}
    report = CleaningReport(corpus.name, len(corpus), dropped)
    if not keep.any():
        raise UserError(f"no pair is left, raise the limit: {report}")
    return (corpus if keep.all() else corpus.select(np.flatnonzero(keep))), report


def each_epoch(
    text: ParallelText,
    tokenizer: TranslationTokenizer,
    *,
    max_tokens: int,
    sample_alpha: float,
    seed: int,
    say: Callable[[CleaningReport], object],
) -> Callable[[int], EncodedCorpus]:
    """Epoch -> its training text, encoded by `encode_corpus`; subword sampling encodes each epoch differently.

    Pairs longer than `max_tokens` are dropped, which is reported once.
    """

    @lru_cache(maxsize=1)
    def encode(epoch: int) -> EncodedCorpus:
        whole = encode_corpus(text, tokenizer, sample_alpha=sample_alpha, seed=seed, epoch=epoch)
        encoded, report = drop_overlong(whole, max_tokens)
        if report.n_dropped and epoch == 0:
            say(report)
        return encoded

    return lambda epoch: encode(epoch if sample_alpha else 0)
