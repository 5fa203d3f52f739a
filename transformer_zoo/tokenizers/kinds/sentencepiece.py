"""SentencePiece vocabularies (Kudo and Richardson 2018): BPE or unigram, trained from lines in memory."""

import io
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Self

import sentencepiece as spm
from tokenizers import AddedToken, models
from tokenizers import Tokenizer as FastTokenizer

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.files import read_sentencepiece
from transformer_zoo.tokenizers.json_pieces import piece_bpe, piece_level
from transformer_zoo.tokenizers.sentence_pieces import PieceSampler, SentencePieces, normalized, normalizing
from transformer_zoo.tokenizers.settings import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    UNK_ID,
    USUAL,
    ModelType,
    Normalization,
    TokenizerSettings,
    TranslationTokenizerSettings,
)
from transformer_zoo.tokenizers.tokenizer import (
    END_OF_TEXT,
    UNKNOWN,
    PiecesTokenizer,
    SideLines,
    Spelling,
    Tokenizer,
    check_unicode,
)

_SPECIAL: dict[str, Any] = {"pad_id": PAD_ID, "unk_id": UNK_ID, "bos_id": BOS_ID, "eos_id": EOS_ID}

# It is fixed, because the number of threads changes the sums of unigram training, and so the vocabulary.
_TRAINING_THREADS = 16
# SentencePiece leaves out longer lines without a message; its default is 4192 bytes.
_LONGEST_TRAINING_LINE = 1 << 20
# A line of text, or parts of a longer line, cut before blanks.
_PARTS = re.compile(r"(?s).{1,65536}(?= |\Z)|.{1,65536}")
_OF_TEXT: dict[str, Any] = {
    "byte_fallback": True,
    "normalization": "identity",
    "remove_extra_whitespaces": False,
    "add_dummy_prefix": False,
    "allow_whitespace_only_pieces": True,
    "user_defined_symbols": ["\n"],
}
# SentencePiece's messages about a training, and what the user can do.
_MISTAKES = {
    r"Vocabulary size too high .* <= (\d+)": (
        "vocab_size: {size} is more pieces than the text has; the largest that works is {limit}"
    ),
    r"smaller than required_chars\. \d+ vs (\d+)": (
        "vocab_size: {size} is too small, the text's characters alone need {limit}; raise it or lower "
        "character_coverage"
    ),
    r"sentences_\.empty\(\)|all_chars_count": "there is no text to train a vocabulary on",
    r"character_coverage\(\) >=": "character_coverage: must be from 0.98 to 1.0",
}


class SentencePieceTokenizer(PiecesTokenizer):
    """Text to piece ids and back. pad 0, unk 1, bos 2, eos 3; ids of `encode` contain no special ones.

    If it is made for text (`make`), it keeps white space and spells unknown characters in bytes. So every text comes
    back unchanged, except for `▁` (U+2581), which SentencePiece takes for a blank.
    >>> subwords = SentencePieceTokenizer.train(["to be or not to be"], vocab_size=15)
    >>> subwords.decode(subwords.encode("not to be"))
    'not to be'

    Args:
        model: A serialized SentencePiece model, as `train` returns it.
    """

    kind, needs, made_of = "sentencepiece", ("vocab_size",), ("model",)
    reads = (
        "vocab_size", "model_type", "training_characters", "character_coverage", "byte_fallback", "normalization",
        "sample_alpha", "training_lines",
    )  # fmt: skip
    pad_id, unk_id, bos_id, eos_id = PAD_ID, UNK_ID, BOS_ID, EOS_ID
    special_ids = frozenset((PAD_ID, UNK_ID, BOS_ID))

    def __init__(self, model: bytes) -> None:
        name = Path("sentencepiece.model")
        self.vocabulary = SentencePieces(read_sentencepiece(model, name))
        self._model = self.vocabulary.model
        if (special := {role: getattr(self._model, role)() for role in _SPECIAL}) != _SPECIAL:
            raise UserError(f"{name}: its special ids are {special}, not {_SPECIAL}; train it with those")
        self.model = model
        self.vocab_size: int = self._model.get_piece_size()

    @classmethod
    def make(cls, texts: Iterable[str], settings: TokenizerSettings = USUAL) -> Self:
        assert settings.vocab_size is not None  # it is needed
        starts = _first(texts, settings.training_characters)
        parts = [part for text in starts for line in text.split("\n") for part in _PARTS.findall(line)]
        return cls.train(parts, vocab_size=settings.vocab_size, model_type=settings.model_type, **_OF_TEXT)

    @classmethod
    def make_sides(
        cls, settings: TranslationTokenizerSettings, vocab_size: int, sides: Sequence[SideLines], *, seed: int
    ) -> list[Tokenizer]:
        complete = settings.character_coverage == 1.0 and not settings.byte_fallback
        required = (
            character
            for side in sides
            if side.is_target and complete
            for character in normalized(sorted(set().union(*side.lines)), side.normalization)
        )
        one = cls.train(
            chain.from_iterable(normalized(side.lines, side.normalization) for side in sides),
            vocab_size=vocab_size,
            model_type=settings.model_type,
            character_coverage=settings.character_coverage,
            byte_fallback=settings.byte_fallback,
            normalization="identity",  # it is done already
            training_lines=settings.training_lines,
            seed=seed,
            required_chars="".join(required).replace(" ", ""),  # also the characters of lines that are not drawn
        )
        return [cls(one.model + normalizing(side.normalization)) for side in sides]

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        *,
        vocab_size: int,
        model_type: ModelType = "bpe",
        character_coverage: float = 1.0,
        byte_fallback: bool = False,
        normalization: Normalization = "nmt_nfkc",
        training_lines: int = 0,
        seed: int = 0,
        **options: Any,
    ) -> Self:
        """Train a tokenizer with exactly `vocab_size` pieces; the same arguments give the same bytes.

        `seed` matters only if `training_lines` draws from the lines. The other arguments are those of
        `TranslationTokenizerSettings`; `options` go to SentencePiece's trainer unchanged.

        Raises:
            UserError: `vocab_size` is above the text's number of pieces or below its number of characters, or there is
                no text.
        """
        if vocab_size <= len(_SPECIAL):
            raise UserError(f"vocab_size: {vocab_size} leaves no room for pieces beside the four special ones")
        lines = list(lines)  # an error inside an iterator would come out of SentencePiece disfigured
        if training_lines:  # SentencePiece can draw as well, but it always draws the same lines
            lines = random.Random(seed).sample(lines, min(training_lines, len(lines)))
        model = io.BytesIO()
        try:
            spm.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                vocab_size=vocab_size,
                model_type=model_type,
                character_coverage=character_coverage,
                byte_fallback=byte_fallback,
                normalization_rule_name=normalization,
                max_sentence_length=_LONGEST_TRAINING_LINE,
                num_threads=_TRAINING_THREADS,
                minloglevel=2,
                **_SPECIAL,
                **options,
            )
        except (RuntimeError, OSError) as error:
            check_unicode(lines)
            raise _training_error(str(error), vocab_size) from None
        return cls(model.getvalue())

    def draw(self, texts: Sequence[str], *, alpha: float, seed: int) -> list[list[int]]:
        try:
            return self._sampler.encode(texts, alpha=alpha, seed=seed)
        except (RuntimeError, TypeError):
            check_unicode(texts)
            raise

    @cached_property
    def _sampler(self) -> PieceSampler:
        return PieceSampler(self._model)

    @cached_property
    def spelling(self) -> Spelling:
        """For text, which keeps the blank at its start, the end is visible; for a line, unknown text is."""
        spelled, blanks = self.vocabulary.spelling
        return {**spelled, **({EOS_ID: END_OF_TEXT.encode()} if blanks == "kept" else {UNK_ID: UNKNOWN})}, blanks

    def fast(self) -> FastTokenizer:
        pieces, sampler = self.pieces, self._sampler
        if sampler.is_unigram:
            scores = [(piece, self._model.get_score(i)) for i, piece in enumerate(pieces)]
            fast = piece_level(models.Unigram(scores, unk_id=UNK_ID, byte_fallback=True))
        else:
            ranks = {piece: -score for piece, score in sampler.scores.items()}
            fast = piece_level(piece_bpe(pieces, ranks, "<unk>"))
        fast.add_special_tokens([piece for i, piece in enumerate(pieces) if self._model.is_control(i)])
        fast.add_tokens([AddedToken("\n", normalized=False, special=False)])
        return fast


def _first(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        yield text[:characters]
        characters -= len(text)
        if characters <= 0:
            return


def _training_error(message: str, vocab_size: int) -> UserError:
    for pattern, words in _MISTAKES.items():
        if found := re.search(pattern, message):
            return UserError(words.format(size=vocab_size, limit=found[found.re.groups]))
    return UserError(f"the vocabulary could not be trained: {' '.join(message.split())}")
