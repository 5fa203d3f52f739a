"""The subword tokenizers of plain text, tiktoken and SentencePiece, and the choice among all kinds."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import tiktoken

from transformer_zoo.data.huggingface_tokenizers import ImportedTextTokenizer
from transformer_zoo.data.text_tokenizers import (
    END_OF_TEXT,
    ByteTokenizer,
    CharacterTokenizer,
    Ids,
    TextTokenizer,
    WordTokenizer,
    load_content,
    utf8,
)
from transformer_zoo.data.tokenizers import ModelType, SentencePieceTokenizer
from transformer_zoo.errors import UserError

_LONGEST_PART = 1 << 16  # characters


@dataclass(kw_only=True)
class TextTokenizerSettings:
    """How text becomes tokens.

    Args:
        kind: `characters` or `words` of the training text; `bytes`; `tiktoken`: a byte-level BPE that is ready
            made; `sentencepiece`: subwords trained on the training text.
        encoding: Which of tiktoken's: `gpt2`, `r50k_base`, `cl100k_base`, `o200k_base`, ...
        vocab_size: Number of ids. For `words` the most frequent are kept, by default all; `sentencepiece` needs it.
        model_type: SentencePiece's `bpe` or `unigram`.
        end_of_text: Whether `characters` and `words` have an id for the end of a document. Without it documents
            follow each other with nothing between; the other kinds always have one.
        training_characters: SentencePiece is trained on the first so many characters.
    """

    kind: Literal["characters", "words", "bytes", "tiktoken", "sentencepiece"] = "characters"
    encoding: str = "gpt2"
    vocab_size: int | None = None
    model_type: ModelType = "bpe"
    end_of_text: bool = True
    training_characters: int = 50_000_000


class TiktokenTokenizer(TextTokenizer):
    """A byte-level BPE of tiktoken: every text has an encoding, special tokens in a text are plain text.

    `TiktokenTokenizer.get("gpt2")` gives the ready-made ones.
    """

    kind = "tiktoken"

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.encoding, self.vocab_size = encoding, encoding.n_vocab
        self.eos_id = encoding._special_tokens.get(END_OF_TEXT)

    @property
    def name(self) -> str:
        """What it is, for people."""
        return f"tiktoken {self.encoding.name} ({self.vocab_size:,})"

    @classmethod
    def get(cls, encoding: str) -> Self:
        """One of tiktoken's own, from its cache or from the network.

        Raises:
            UserError: there is none of this name, or neither cache nor network has its file.
        """
        if encoding not in (names := tiktoken.list_encoding_names()):
            raise UserError(f"encoding: tiktoken has no {encoding!r}; it has {', '.join(names)}")
        try:
            return cls(tiktoken.get_encoding(encoding))
        except ValueError as error:  # a file with a wrong sum
            raise UserError(f"encoding: tiktoken's {encoding!r}: {str(error).partition(chr(10))[0]}") from None
        except OSError:  # what requests raises is one as well
            raise UserError(
                f"encoding: the file of tiktoken's {encoding!r} is not in the cache and cannot be downloaded; set "
                "TIKTOKEN_CACHE_DIR to a folder that tiktoken has filled where there is a network"
            ) from None

    def encode_array(self, text: str) -> Ids:
        """Ids of a text, (N,)."""
        utf8(text)
        return self.encoding.encode_to_numpy(text, disallowed_special=())

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 of the ids; the few numbers that some encodings leave unused give nothing."""
        try:
            return self.encoding.decode_bytes(ids)
        except KeyError:
            return b"".join(self._bytes_of(i) for i in ids)

    def _bytes_of(self, i: int) -> bytes:
        try:
            return self.encoding.decode_single_token_bytes(i)
        except KeyError:
            return b""

    def content(self) -> tuple[dict[str, Any], bytes]:
        """Name, pattern and special tokens; the merges in tiktoken's own format."""
        of = self.encoding
        ranks = sorted(of._mergeable_ranks.items(), key=lambda item: item[1])
        lines = b"".join(base64.b64encode(piece) + b" %d\n" % rank for piece, rank in ranks)
        return {"encoding": of.name, "pattern": of._pat_str, "special": of._special_tokens}, lines

    @classmethod
    def from_content(cls, fields: dict[str, Any], content: bytes) -> Self:
        """What `content` was taken from; needs neither cache nor network."""
        pairs = (line.split() for line in content.splitlines())
        ranks = {base64.b64decode(piece): int(rank) for piece, rank in pairs}
        return cls(
            tiktoken.Encoding(
                fields["encoding"],
                pat_str=fields["pattern"],
                mergeable_ranks=ranks,
                special_tokens=fields["special"],
            )
        )


class SentencePieceTextTokenizer(TextTokenizer):
    """A SentencePiece vocabulary that keeps white space and spells what it does not know in bytes.

    So every text comes back as it was, but for `▁` (U+2581), which SentencePiece takes for a blank.
    """

    kind, special_ids = "sentencepiece", SentencePieceTokenizer.special_ids

    def __init__(self, tokenizer: SentencePieceTokenizer) -> None:
        self._tokenizer = tokenizer
        self.vocab_size, self.eos_id = tokenizer.vocab_size, tokenizer.eos_id
        self._bytes = [_piece_bytes(tokenizer, i) for i in range(tokenizer.vocab_size)]

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int, model_type: ModelType = "bpe") -> Self:
        """A vocabulary of exactly `vocab_size` pieces, trained on the lines of the texts.

        Raises:
            UserError: as `SentencePieceTokenizer.train`.
        """
        tokenizer = SentencePieceTokenizer.train(
            [part for text in texts for line in text.split("\n") if line for part in _cut(line)],
            vocab_size=vocab_size,
            model_type=model_type,
            byte_fallback=True,
            normalization="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            user_defined_symbols=["\n"],
        )
        return cls(tokenizer)

    def encode_array(self, text: str) -> Ids:
        """Ids of a text, (N,)."""
        return np.array(self._tokenizer.encode(text), np.int32)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 of the pieces."""
        return b"".join(self._bytes[i] for i in ids)

    def content(self) -> tuple[dict[str, Any], bytes]:
        """The model."""
        return {}, self._tokenizer.model

    @classmethod
    def from_content(cls, fields: dict[str, Any], content: bytes) -> Self:
        """What `content` was taken from."""
        return cls(SentencePieceTokenizer(content))


def _piece_bytes(tokenizer: SentencePieceTokenizer, i: int) -> bytes:
    pieces = tokenizer._pieces
    if pieces.is_byte(i):
        return bytes([int(pieces.id_to_piece(i)[3:5], 16)])  # <0x0A>
    if i == tokenizer.eos_id:
        return END_OF_TEXT.encode()
    return b"" if pieces.is_control(i) or pieces.is_unknown(i) else pieces.id_to_piece(i).replace("▁", " ").encode()


def make_text_tokenizer(settings: TextTokenizerSettings, texts: Iterable[str]) -> TextTokenizer:
    """The tokenizer that the settings describe; `texts` are read by the kinds that learn from them.

    Raises:
        UserError: the settings contradict each other, or the texts are not enough for them.
    """
    kind, size = settings.kind, settings.vocab_size
    if size is not None and kind not in ("words", "sentencepiece"):
        raise UserError(f"vocab_size: the size is settled with kind {kind!r}; leave it out")
    match kind:
        case "characters":
            return CharacterTokenizer.train(texts, end_of_text=settings.end_of_text)
        case "words":
            return WordTokenizer.train(texts, vocab_size=size, end_of_text=settings.end_of_text)
        case "bytes":
            return ByteTokenizer()
        case "tiktoken":
            return TiktokenTokenizer.get(settings.encoding)
        case "sentencepiece" if size is not None:
            sample = _first(texts, settings.training_characters)
            return SentencePieceTextTokenizer.train(sample, vocab_size=size, model_type=settings.model_type)
        case "sentencepiece":
            raise UserError("vocab_size: kind 'sentencepiece' needs one")
    trained = [name for name in _KINDS if name != ImportedTextTokenizer.kind]
    raise UserError(f"kind: no tokenizer {kind!r}; there are {', '.join(trained)}")


def _cut(line: str) -> Iterator[str]:
    """A line, or parts of a very long one, which SentencePiece would leave out, cut before blanks."""
    start = 0
    while len(line) - start > _LONGEST_PART:
        end = line.rfind(" ", start + 1, start + _LONGEST_PART)
        end = end if end > 0 else start + _LONGEST_PART
        yield line[start:end]
        start = end
    yield line[start:]


def _first(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        yield text[:characters]
        characters -= len(text)
        if characters <= 0:
            return


_KINDS: dict[str, type[TextTokenizer]] = {
    cls.kind: cls
    for cls in (
        CharacterTokenizer,
        WordTokenizer,
        ByteTokenizer,
        TiktokenTokenizer,
        SentencePieceTextTokenizer,
        ImportedTextTokenizer,
    )
}


def load_text_tokenizer(folder: str | Path) -> TextTokenizer:
    """Read what `TextTokenizer.save` wrote.

    Raises:
        UserError: there is no tokenizer, or it is damaged.
    """
    folder = Path(folder)
    kind, fingerprint, fields, content = load_content(folder)
    try:
        tokenizer = _KINDS[kind].from_content(fields, content)
    except (KeyError, TypeError, ValueError):
        tokenizer = None
    if tokenizer is None or tokenizer.fingerprint != fingerprint:
        names = ", ".join(fields.get("files", ["text_tokenizer.model"]))
        raise UserError(f"{folder}: the tokenizer is damaged ({names}), or from a newer version; save it again")
    return tokenizer
