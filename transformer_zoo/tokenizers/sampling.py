"""Subword sampling that a seed repeats: BPE-dropout and unigram sampling, word by word.

SentencePiece can draw pieces itself, but (0.2.3) it salts its random numbers anew in each process, whatever
`set_random_generator_seed` says. A run that goes on after a stop, or on several ranks, must draw the same.
"""

import functools
import itertools
import math
import random
from collections.abc import Sequence

import sentencepiece as spm

_SPACE = "▁"
# Of a word that comes often, this many segmentations are drawn for each call, and then drawn from.
_DRAWS = 8
# Segmentations of a word among which unigram sampling draws: the best ones (l of Kudo 2018).
_BEST = 32
_CACHED_WORDS = 100_000


class PieceSampler:
    """Draws the pieces of a BPE or unigram model.

    Args:
        pieces: The model. Its pieces must not cross spaces, which is how SentencePiece trains by default.
    """

    def __init__(self, pieces: spm.SentencePieceProcessor) -> None:
        self._pieces = pieces
        self._unk: int = pieces.unk_id()
        written = [i for i in range(len(pieces)) if not (pieces.is_byte(i) or pieces.is_control(i) or i == self._unk)]
        self.scores = {pieces.id_to_piece(i): pieces.get_score(i) for i in written}
        self._ids = {pieces.id_to_piece(i): i for i in range(len(pieces))}
        self._candidates = functools.lru_cache(_CACHED_WORDS)(self._unigram_candidates)
        try:
            pieces.nbest_encode("", nbest_size=2)
            self.is_unigram = True
        except RuntimeError:  # BPE has no n-best
            self.is_unigram = False

    def encode(self, texts: Sequence[str], *, alpha: float, seed: int) -> list[list[int]]:
        """Ids of every text, drawn: a pure function of the arguments. Words are drawn apart from each other.

        By BPE each merge is left out with probability alpha at each step (Provilkov et al. 2020, algorithm 1). By
        unigram a segmentation is drawn in proportion to its probability to the power alpha (Kudo 2018, section 3.3).
        """
        dice = random.Random(seed)
        draw = self._draw_unigram if self.is_unigram else functools.partial(self._draw_bpe, drawn={})
        words = (text.split(_SPACE)[1:] for text in self._pieces.normalize(list(texts)))
        return [[i for word in row for i in draw(word, alpha, dice)] for row in words]

    def _draw_unigram(self, word: str, alpha: float, dice: random.Random) -> list[int]:
        segmentations, cumulated = self._candidates(word, alpha)
        return segmentations[0] if len(segmentations) == 1 else dice.choices(segmentations, cum_weights=cumulated)[0]

    def _unigram_candidates(self, word: str, alpha: float) -> tuple[list[list[int]], list[float]]:
        if not word:
            return [self._to_ids([_SPACE])], [1.0]
        segmentations = self._pieces.nbest_encode(word, nbest_size=_BEST)
        scores = [sum(map(self._pieces.get_score, ids)) for ids in segmentations]
        weights = (math.exp(alpha * (score - max(scores))) for score in scores)
        return segmentations, list(itertools.accumulate(weights))

    def _draw_bpe(self, word: str, alpha: float, dice: random.Random, drawn: dict[str, list[list[int]]]) -> list[int]:
        pool = drawn.setdefault(word, [])
        if len(pool) == _DRAWS:
            return pool[int(dice.random() * _DRAWS)]
        pool.append(self._to_ids(self._merge([_SPACE, *word], alpha, dice)))
        return pool[-1]

    def _merge(self, symbols: list[str], alpha: float, dice: random.Random) -> list[str]:
        while True:
            best, place = -math.inf, -1
            for i, pair in enumerate(itertools.pairwise(symbols)):
                score = self.scores.get(pair[0] + pair[1], -math.inf)
                if score > best and dice.random() >= alpha:
                    best, place = score, i
            if place < 0:
                return symbols
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]

    def _to_ids(self, symbols: list[str]) -> list[int]:
        ids: list[int] = []
        for symbol in symbols:
            if symbol in self.scores:
                ids.append(self._ids[symbol])
                continue
            for byte in symbol.encode():
                i = self._ids.get(f"<0x{byte:02X}>", self._unk)
                if i != self._unk or ids[-1:] != [i]:  # neighbours that are unknown are one unknown piece
                    ids.append(i)
        return ids
