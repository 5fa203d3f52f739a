"""SentencePiece vocabularies (Kudo and Richardson 2018): BPE or unigram, trained from lines in memory."""

import functools
import io
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import sentencepiece as spm

from transformer_zoo.checksums import MARK, read_sealed, seal
from transformer_zoo.data.normalization import Normalization, normalized, normalizing
from transformer_zoo.data.sampling import PieceSampler
from transformer_zoo.errors import UserError
from transformer_zoo.files import write_bytes

PAD_ID, UNK_ID, BOS_ID, EOS_ID = 0, 1, 2, 3
IMPORTED = "translation_tokenizer.json"
"""The file by which a folder is known to hold an imported tokenizer instead."""

ModelType = Literal["bpe", "unigram"]

# Fixed, because the number of threads changes the sums of unigram training, and so the vocabulary.
_TRAINING_THREADS = 16
# SentencePiece leaves out longer lines without a word; its default is 4192 bytes.
_LONGEST_TRAINING_LINE = 1 << 20
# A saved model ends with a field that SentencePiece does not know and passes over: number 2000, a text, the checksum.
_CHECKSUM_FIELD = b"\x82\x7d" + bytes([len(MARK)])


@dataclass(kw_only=True)
class TokenizerSettings:
    """How the vocabulary of a translation run is made.

    Args:
        vocab_size: Number of pieces, the four special ones included. The joint vocabulary, or the source's.
        target_vocab_size: Pieces of the target's vocabulary where `joint` is false; by default as many as the
            source's.
        joint: One vocabulary for both languages (embeddings may then be shared), or one for each.
        model_type: `bpe` (Sennrich et al. 2016) or `unigram` (Kudo 2018).
        character_coverage: Share of the characters that get a piece; the rarest others become unknown, and no
            translation has them. With 1.0 every character of the training targets can be written.
        byte_fallback: Spell unknown characters in UTF-8 bytes (256 more pieces), so that nothing is unknown.
        normalization: Of sources: `nmt_nfkc` makes look-alike characters and spaces equal, `_cf` folds case as well,
            `identity` leaves text as it is, but for white space, which becomes plain spaces.
        target_normalization: Of targets, likewise. What is made equal here, no translation can tell apart: with
            anything but `identity` there is no ½, m², full width ， or ZWNJ in translations.
        sample_alpha: Subword sampling while training, 0 for none. For `bpe` the share of merges left out
            (BPE-dropout, Provilkov et al. 2020: 0.1); for `unigram` the smoothing (Kudo 2018: 0.1 to 0.5, the
            smaller the wilder).
        training_lines: Train the vocabulary on this many lines, drawn at random; 0 for all of them.
    """

    vocab_size: int = 8000
    target_vocab_size: int | None = None
    joint: bool = True
    model_type: ModelType = "bpe"
    character_coverage: float = 1.0
    byte_fallback: bool = False
    normalization: Normalization = "nmt_nfkc"
    target_normalization: Normalization = "identity"
    sample_alpha: float = 0.0
    training_lines: int = 0


class SentencePieceTokenizer:
    """Text to piece ids and back. pad 0, unk 1, bos 2, eos 3; ids of `encode` hold no special ones.

    Args:
        model: A serialized SentencePiece model, as `train` makes and `save` writes it.
    """

    pad_id, unk_id, bos_id, eos_id = PAD_ID, UNK_ID, BOS_ID, EOS_ID
    special_ids = frozenset((PAD_ID, UNK_ID, BOS_ID))
    """What no text is made of, but for its end."""

    def __init__(self, model: bytes, *, name: str = "SentencePiece model") -> None:
        try:
            self._pieces = spm.SentencePieceProcessor(model_proto=model)
            if not self._pieces.get_piece_size():  # an empty file is read without complaint
                raise RuntimeError
            specials = tuple(getattr(self._pieces, f"{token}_id")() for token in ("pad", "unk", "bos", "eos"))
        except RuntimeError:
            raise UserError(f"{name}: not a SentencePiece model; train it again") from None
        if specials != (PAD_ID, UNK_ID, BOS_ID, EOS_ID):
            raise UserError(f"{name}: pad, unk, bos, eos are {specials}, not (0, 1, 2, 3); train it with those")
        self.model = model
        self.vocab_size: int = self._pieces.get_piece_size()

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
    ) -> "SentencePieceTokenizer":
        """A tokenizer with exactly `vocab_size` pieces; the same arguments give the same bytes.

        `seed` matters only where `training_lines` draws from the lines. The other arguments are those of
        `TokenizerSettings`; `options` go to SentencePiece's trainer as they are.

        Raises:
            UserError: `vocab_size` is more than the text has pieces or less than it has characters (it names
                the limit), or there is no text.
        """
        lines = list(lines)  # an error inside an iterator would come out of SentencePiece disfigured
        if training_lines:  # SentencePiece can draw as well, but always the same lines
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
                pad_id=PAD_ID,
                unk_id=UNK_ID,
                bos_id=BOS_ID,
                eos_id=EOS_ID,
                minloglevel=2,
                **options,
            )
        except (RuntimeError, OSError) as error:
            raise _training_error(str(error), vocab_size, lines) from None
        return cls(model.getvalue())

    def normalizing(self, normalization: Normalization) -> "SentencePieceTokenizer":
        """The same pieces for text that is normalized so; `identity` keeps all of it but for white space."""
        model = spm.SentencePieceProcessor(model_proto=self.model + normalizing(normalization))
        return SentencePieceTokenizer(model.serialized_model_proto())

    @functools.cached_property
    def pieces(self) -> list[str]:
        """The pieces, by id."""
        return [self._pieces.id_to_piece(i) for i in range(self.vocab_size)]

    def encode(self, text: str) -> list[int]:
        """Piece ids of one line, without bos and eos."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str], *, sample_alpha: float = 0.0, seed: int = 0) -> list[list[int]]:
        """Piece ids of many lines, without bos and eos.

        `sample_alpha` above 0 draws the pieces (see `TokenizerSettings`), the same for the same arguments.

        Raises:
            UserError: a text holds a lone surrogate, so it is not Unicode.
        """
        try:
            if sample_alpha == 0.0:
                return self._pieces.encode(list(texts), num_threads=-1)  # type: ignore[no-any-return]
            return self._sampler.encode(texts, alpha=sample_alpha, seed=seed)
        except (RuntimeError, TypeError):
            raise UserError(_not_unicode(texts)) from None

    def tag_of(self, text: str) -> str:
        """What of a text is no text of it: nothing."""
        return ""

    @functools.cached_property
    def _sampler(self) -> PieceSampler:
        return PieceSampler(self._pieces)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of piece ids; pad, bos and eos give nothing, unk gives " ⁇ "."""
        return self._pieces.decode(list(ids))  # type: ignore[no-any-return]

    def save(self, path: str | Path) -> None:
        """Write the model file: beside, synced, renamed, so that a reader never sees half of it."""
        write_bytes(Path(path), seal(self.model + _CHECKSUM_FIELD + MARK.encode()))

    @classmethod
    def load(cls, path: str | Path) -> "SentencePieceTokenizer":
        """Read a model file.

        Raises:
            UserError: the file is missing, is no SentencePiece model or has other special ids.
        """
        try:
            content = read_sealed(Path(path))
            ours = content[: -len(MARK)].endswith(_CHECKSUM_FIELD)
            return cls(content[: -len(_CHECKSUM_FIELD) - len(MARK)] if ours else content, name=str(path))
        except OSError as error:
            raise UserError(f"{path}: cannot read the tokenizer ({error.strerror})") from None


@dataclass(frozen=True)
class TranslationTokenizer:
    """The tokenizers of both sides. With a joint vocabulary their pieces are the same, and only what they make of a
    text before differs."""

    source: SentencePieceTokenizer
    target: SentencePieceTokenizer

    @functools.cached_property
    def joint(self) -> bool:
        """Whether both sides have the same pieces."""
        return self.source.pieces == self.target.pieces

    @classmethod
    def train(
        cls, source: Iterable[str], target: Iterable[str], settings: TokenizerSettings, *, seed: int = 0
    ) -> "TranslationTokenizer":
        """Train as `settings` says, on the lines of both sides.

        Raises:
            UserError: as `SentencePieceTokenizer.train`; `target_vocab_size` set for a joint vocabulary.
        """
        of_source, of_target = settings.normalization, settings.target_normalization
        source, target = list(source), list(target)
        if not all(map(_is_unicode, chain(source, target))):
            raise UserError(_not_unicode([*source, *target]))
        to_write = "".join(normalized(sorted(set().union(*target)), of_target)).replace(" ", "")

        def train(lines: Iterable[str], vocab_size: int, *, required: str = "") -> SentencePieceTokenizer:
            complete = settings.character_coverage == 1.0 and not settings.byte_fallback
            return SentencePieceTokenizer.train(
                lines,
                vocab_size=vocab_size,
                model_type=settings.model_type,
                character_coverage=settings.character_coverage,
                byte_fallback=settings.byte_fallback,
                normalization="identity",  # it is done already
                training_lines=settings.training_lines,
                seed=seed,
                required_chars=required if complete else "",  # also those of lines that are not drawn
            )

        sources, targets = normalized(source, of_source), normalized(target, of_target)
        if settings.joint:
            if settings.target_vocab_size not in (None, settings.vocab_size):
                raise UserError("target_vocab_size: a joint vocabulary has one size; leave it out or set joint: false")
            pieces = [train(chain(sources, targets), settings.vocab_size, required=to_write)] * 2
        else:
            target_size = settings.target_vocab_size or settings.vocab_size
            pieces = [train(sources, settings.vocab_size), train(targets, target_size, required=to_write)]
        return cls(pieces[0].normalizing(of_source), pieces[1].normalizing(of_target))

    def save(self, folder: str | Path) -> None:
        """Write `source.model` and `target.model`, in place of any tokenizer in the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.source.save(folder / "source.model")
        self.target.save(folder / "target.model")
        (folder / IMPORTED).unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | Path) -> "TranslationTokenizer":
        """Read what `save` wrote.

        Raises:
            UserError: a file is missing or damaged.
        """
        folder = Path(folder)
        if not (folder / "source.model").exists():
            raise UserError(f"{folder}: no tokenizer here (source.model and target.model)")
        return cls(*(SentencePieceTokenizer.load(folder / f"{side}.model") for side in ("source", "target")))


def _training_error(message: str, vocab_size: int, lines: Sequence[str]) -> UserError:
    """SentencePiece's complaint in words a person can act on."""
    if found := re.search(r"Vocabulary size too high .* <= (\d+)", message):
        return UserError(
            f"vocab_size: {vocab_size} is more pieces than the text has; the largest that works is {found[1]}"
        )
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"vocab_size: {vocab_size} is too small, the text's characters alone need {found[1]}; "
            "raise it or lower character_coverage"
        )
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return UserError("there is no text to train a vocabulary on")
    if vocab_size <= 4:
        return UserError(f"vocab_size: {vocab_size} leaves no room for pieces beside the four special ones")
    if "character_coverage() >=" in message:
        return UserError("character_coverage: must be from 0.98 to 1.0")
    if "Unable to cast" in message:
        return UserError(_not_unicode(lines))
    return UserError(f"the vocabulary could not be trained: {' '.join(message.split())}")


def _not_unicode(texts: Sequence[str]) -> str:
    for number, text in enumerate(texts, start=1):
        if not _is_unicode(text):
            return f"text {number} of {len(texts)} is not valid Unicode (a lone surrogate): {text[:40]!a}"
    return "the text could not be encoded"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
