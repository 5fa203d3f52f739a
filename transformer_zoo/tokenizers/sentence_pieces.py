"""SentencePiece: its models as vocabularies, their normalization of text, and pieces that are drawn.

A model is a protocol buffer. If two stand one after the other, the fields of the later one count. So another normalizer
is written behind the model to replace its own.
"""

import functools
import itertools
import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sentencepiece as spm

from transformer_zoo.tokenizers.settings import Normalization
from transformer_zoo.tokenizers.tokenizer import Pieces, Spelling, check_unicode

# SentencePiece writes ▁ for a blank, and does not train on lines with ▅. So its pieces have these characters instead,
# which become text again when pieces are joined.
_RESERVED = {"▁": "\U0010ff81", "▅": "\U0010ff85"}
_BLANKS = {c: " " for c in map(chr, range(0x3001)) if c.isspace() and c != " "}
_AS_IT_IS: dict[str, Any] = {"add_dummy_prefix": False, "escape_whitespaces": False, "remove_extra_whitespaces": False}
_DENORMALIZER_SPEC = 5  # its field in sentencepiece_model.proto
_SPACE = "▁"
# This many segmentations of a frequent word are drawn in each call, and then used at random.
_DRAWS = 8
# Number of segmentations of a word from which unigram sampling draws: the best ones (l of Kudo 2018).
_BEST = 32
_CACHED_WORDS = 100_000


class SentencePieces(Pieces):
    """A SentencePiece model, with its own ids or those of another list.

    Args:
        model: The model.
        ids: Piece to id, which may have pieces that SentencePiece lacks; None: SentencePiece's own ids.
        unk: The piece for text that the list does not have.

    Attributes:
        marks: Finds, as its only group, tokens of `ids` that are not cut into pieces; here it finds nothing.
    """

    marks = re.compile("((?!))")

    def __init__(
        self, model: spm.SentencePieceProcessor, *, ids: Mapping[str, int] | None = None, unk: str = "<unk>"
    ) -> None:
        super().__init__({model.id_to_piece(i): i for i in range(len(model))} if ids is None else ids)
        self.model, self._is_own, self._unk_id = model, ids is None, self.ids.get(unk, -1)
        self.stand_ins = stand_ins(model)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        cut = [self.marks.split(text) for text in texts]  # text, mark, text, ...
        rows = iter(self._encode([text for parts in cut for text in parts[::2]]))
        return [
            [i for n, part in enumerate(parts) for i in ([self.id_of_mark(part)] if n % 2 else next(rows))]
            for parts in cut
        ]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            if self._is_own:
                return self.model.encode(list(texts), num_threads=-1)  # type: ignore[no-any-return]
            rows = self.model.encode(list(texts), out_type=str, num_threads=-1)
        except (RuntimeError, TypeError):
            check_unicode(texts)
            raise
        known, unk = self.ids.get, self._unk_id
        return [[known(piece, unk) for piece in row] for row in rows]

    def id_of_mark(self, mark: str) -> int:
        """Id of the token that `marks` found."""
        return self.ids.get(mark, self._unk_id)

    @functools.cached_property
    def spelling(self) -> Spelling:
        model, spelled = self.model, dict[int, bytes]()
        unknown = model.id_to_piece(model.unk_id())
        for token, i in self.ids.items():
            own = model.piece_to_id(token)
            if model.is_byte(own):
                spelled[i] = bytes([int(token[3:5], 16)])  # <0x0A>
            elif not (model.is_control(own) or model.is_unused(own) or token == unknown or self.marks.fullmatch(token)):
                spelled[i] = token.replace("▁", " ").encode()
        return spelled, "first dropped" if str(model.normalize("a")).startswith("▁") else "kept"


def normalized(lines: Iterable[str], normalization: Normalization) -> Iterator[str]:
    """Each line as a model with this normalization reads it."""
    normalizer = _normalizer(normalization, **_AS_IT_IS)
    return (normalizer.normalize(line) for line in lines)


def stand_ins(model: spm.SentencePieceProcessor) -> dict[int, str]:
    """For `str.translate`: the reserved characters in a model's joined text, if it can have any."""
    return str.maketrans({x: str(model.decode_pieces([x])) for x in _RESERVED.values()})


@functools.cache
def normalizing(normalization: Normalization) -> bytes:
    """The ending of a model that normalizes in this way. It always gives the reserved characters back."""
    back = [(stand_in, character) for character, stand_in in _RESERVED.items()]
    spec: bytes = spm.SentencePieceNormalizer(norm_map=back, **_AS_IT_IS).serialized_normalizer_spec()
    normalizer: bytes = _normalizer(normalization).serialized_model_proto()
    return normalizer + bytes([_DENORMALIZER_SPEC << 3 | 2]) + _varint(len(spec)) + spec


def _normalizer(normalization: Normalization, **flags: Any) -> spm.SentencePieceNormalizer:
    """SentencePiece's own normalizer; for `identity`, one that only changes white space to plain blanks."""
    spm.set_min_log_level(2)
    if normalization == "identity":
        return spm.SentencePieceNormalizer(norm_map=[*_BLANKS.items(), *_RESERVED.items()], **flags)
    return spm.SentencePieceNormalizer(rule_name=normalization, **flags)


def _varint(number: int) -> bytes:
    """A length in the form of protocol buffers: seven bits a byte, the lowest first, and a flag in all except the
    last."""
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


class PieceSampler:
    """Draws the pieces of a BPE or unigram model, word by word. A seed repeats the draw.

    SentencePiece can draw itself, but (0.2.3) it adds a new random salt in each process, whatever
    `set_random_generator_seed` says. A run that is resumed, or has several ranks, must draw the same.

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
        """Drawn ids of every text: a pure function of the arguments. Each word is drawn independently.

        BPE leaves out each merge with probability alpha at each step (Provilkov et al. 2020, algorithm 1). Unigram
        draws a segmentation in proportion to its probability to the power alpha (Kudo 2018, section 3.3).
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
                if i != self._unk or ids[-1:] != [i]:  # unknown neighbours are one unknown piece
                    ids.append(i)
        return ids
