"""Tokenizers of plain text for language models: one small interface, and the simple kinds behind it.

Characters, whitespace words and bytes are here; the subword kinds are in `subword_tokenizers.py`. All give back the
text they were given; words do up to runs of blanks and to words that are not in the vocabulary.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transformer_zoo.checksums import read_fields, write_fields
from transformer_zoo.errors import UserError
from transformer_zoo.files import read_bytes, write_bytes

END_OF_TEXT = "<|endoftext|>"  # what the id between documents looks like when it is decoded
Ids = NDArray[Any]

_FIELDS, _CONTENT = "text_tokenizer.json", "text_tokenizer.model"


class TextTokenizer(ABC):
    """Text to ids and back. A subclass says how; saving, loading and the fingerprint are the same for all.

    Attributes:
        vocab_size: Number of ids.
        eos_id: The id after each document, which no text encodes to (of imported tokenizers its name does); None if
            there is none.
        start_ids: What a prompt begins with; nothing, but in some models that were trained elsewhere.
        special_ids: What no text is made of, but for its end: unknown, padding, begin. Imported tokenizers name none:
            their models write as they did elsewhere.
    """

    kind: ClassVar[str]
    vocab_size: int
    eos_id: int | None
    start_ids: tuple[int, ...] = ()
    special_ids: Collection[int] = ()

    @property
    def name(self) -> str:
        """What it is, for people."""
        return f"{self.kind} ({self.vocab_size:,})"

    @abstractmethod
    def encode_array(self, text: str) -> Ids:
        """Ids of a text, (N,), without end-of-text.

        Raises:
            UserError: the vocabulary cannot spell the text, or the text is not Unicode.
        """

    @abstractmethod
    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 of the ids; the last character may be cut. More ids only ever add bytes at the end."""

    @abstractmethod
    def content(self) -> tuple[dict[str, Any], bytes]:
        """All there is to it: fields that JSON can hold, and bytes (none for most).

        A field `files` gives name and size of the files that the bytes are, one after another; they are saved as such.
        """

    @classmethod
    @abstractmethod
    def from_content(cls, fields: dict[str, Any], content: bytes) -> Self:
        """What `content` was taken from."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without end-of-text. Raises UserError as `encode_array`."""
        return self.encode_array(text).tolist()  # type: ignore[no-any-return]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts. Raises UserError as `encode_array`."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; bytes that are no UTF-8 become the replacement character."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the vocabulary: equal for tokenizers that give the same ids."""
        fields, content = self.content()
        text = json.dumps({"kind": self.kind, **fields}, sort_keys=True)
        return hashlib.sha256(text.encode() + b"\n" + content).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write `text_tokenizer.json`, and for the subword kinds `text_tokenizer.model`, into the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        fields, content = self.content()
        (folder / _FIELDS).unlink(missing_ok=True)  # two files cannot change at once: for a moment there is none
        parts = split_files(fields, content)
        for name, part in parts.items():
            write_bytes(folder / name, part)
        about = {"kind": self.kind, "fingerprint": self.fingerprint, **fields}
        write_fields(folder / _FIELDS, about)
        if _CONTENT not in parts:
            (folder / _CONTENT).unlink(missing_ok=True)


def split_files(fields: dict[str, Any], content: bytes) -> dict[str, bytes]:
    """The files that hold the bytes of `TextTokenizer.content`, by name."""
    sizes: dict[str, int] = fields.get("files", {_CONTENT: len(content)} if content else {})
    ends = list(accumulate(sizes.values()))
    return {name: content[end - size : end] for (name, size), end in zip(sizes.items(), ends, strict=True)}


def load_content(folder: Path) -> tuple[str, str, dict[str, Any], bytes]:
    """Kind, fingerprint, fields and content of a saved tokenizer. UserError if there is none, or half of one."""
    try:
        fields = read_fields(folder / _FIELDS, remedy="save the tokenizer again")
        kind, fingerprint = fields.pop("kind"), fields.pop("fingerprint")
        names = fields.get("files", [_CONTENT] if (folder / _CONTENT).exists() else [])
        if any(Path(name).name != name for name in names):
            raise ValueError
        content = b"".join(read_bytes(folder / name) for name in names)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no tokenizer here ({Path(error.filename).name})") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot read the tokenizer ({error.strerror})") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{folder / _FIELDS}: damaged; save the tokenizer again") from None
    return kind, fingerprint, fields, content


def utf8(text: str) -> bytes:
    """UTF-8 of a text. UserError if it holds a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text is not valid Unicode: a lone surrogate, {text[error.start : error.start + 20]!a}"
        ) from None


class CharacterTokenizer(TextTokenizer):
    """Each character is a token.

    Args:
        characters: The vocabulary, in the order of its ids.
        end_of_text: Whether there is an id for the end of a document; it is the last.
    """

    kind = "characters"

    def __init__(self, characters: str, *, end_of_text: bool = True) -> None:
        codes = _codes(characters)
        if not len(codes) or len(set(characters)) != len(characters):
            raise UserError("characters: the vocabulary is empty or has a character twice")
        self.characters, self._pieces = characters, [utf8(character) for character in characters]
        self._table = np.full(int(codes.max()) + 2, -1, np.int32)  # the last entry stands for all characters above
        self._table[codes] = np.arange(len(codes))
        self.eos_id = len(codes) if end_of_text else None
        self.vocab_size = len(codes) + end_of_text
        self._pieces += [END_OF_TEXT.encode()] * end_of_text

    @classmethod
    def train(cls, texts: Iterable[str], *, end_of_text: bool = True) -> Self:
        """All characters of the texts, in the order of their numbers."""
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return cls("".join(sorted(characters)), end_of_text=end_of_text)

    def encode_array(self, text: str) -> Ids:
        """Ids of a text, (N,). Raises UserError for a character that is not in the vocabulary."""
        codes = _codes(text)
        ids = self._table[np.minimum(codes, len(self._table) - 1)]
        if len(unknown := codes[ids < 0]):
            character = chr(unknown[0])
            raise UserError(
                f"character {character!r} (U+{unknown[0]:04X}) is not among the {len(self.characters)} of the "
                "vocabulary; leave it out, or train with another kind of tokenizer (bytes know every text)"
            )
        return ids

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 of the characters."""
        return b"".join(self._pieces[i] for i in ids)

    def content(self) -> tuple[dict[str, Any], bytes]:
        """Its characters, and whether there is an end of text."""
        return {"characters": self.characters, "end_of_text": self.eos_id is not None}, b""

    @classmethod
    def from_content(cls, fields: dict[str, Any], content: bytes) -> Self:
        """What `content` was taken from."""
        return cls(fields["characters"], end_of_text=fields["end_of_text"])


def _codes(text: str) -> NDArray[np.uint32]:
    utf8(text)
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


class ByteTokenizer(TextTokenizer):
    """Each byte of the UTF-8 is a token, ids 0 to 255; 256 is the end of text."""

    kind, vocab_size, eos_id = "bytes", 257, 256

    def encode_array(self, text: str) -> Ids:
        """The bytes of a text, (N,)."""
        return np.frombuffer(utf8(text), np.uint8)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes."""
        return b"".join(bytes([i]) if i < 256 else END_OF_TEXT.encode() for i in ids)

    def content(self) -> tuple[dict[str, Any], bytes]:
        """Nothing: there is only one."""
        return {}, b""

    @classmethod
    def from_content(cls, fields: dict[str, Any], content: bytes) -> Self:
        """The one there is."""
        return cls()


class WordTokenizer(TextTokenizer):
    r"""Whatever stands between white space is a token, and so is each line's end. Id 0 is `<unk>`, 1 is `\n`.

    Args:
        words: The vocabulary without those two, in the order of its ids.
        end_of_text: Whether there is an id for the end of a document; it is the last.
    """

    kind, special_ids = "words", (0,)

    def __init__(self, words: Sequence[str], *, end_of_text: bool = True) -> None:
        self.words = list(words)
        pieces = ["<unk>", "\n", *self.words]
        self._ids = {piece: i for i, piece in enumerate(pieces)}
        if len(self._ids) != len(pieces):
            raise UserError("words: the vocabulary has a word twice")
        self.eos_id = len(pieces) if end_of_text else None
        self._pieces = pieces + [END_OF_TEXT] * end_of_text
        self.vocab_size = len(self._pieces)

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int | None = None, end_of_text: bool = True) -> Self:
        """The words of the texts, the most frequent first; with `vocab_size` no more than fill so many ids."""
        counts = Counter(word for text in texts for word in text.split() if word != "<unk>")
        words = sorted(counts, key=lambda word: (-counts[word], word))
        n_special = 2 + end_of_text
        if vocab_size is not None and vocab_size <= n_special:
            raise UserError(f"vocab_size: {vocab_size} leaves no room for words beside the {n_special} special ones")
        return cls(words[: None if vocab_size is None else vocab_size - n_special], end_of_text=end_of_text)

    def encode_array(self, text: str) -> Ids:
        """Ids of a text, (N,); an unknown word is 0."""
        utf8(text)
        known = self._ids.get
        ids: list[int] = []
        for line in text.split("\n"):
            ids += [known(word, 0) for word in line.split()]
            ids.append(1)
        return np.array(ids[:-1], np.int32)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 of the words, a blank between two of them in a line."""
        text, blank = [], ""
        for piece in (self._pieces[i] for i in ids):
            text.append(piece if piece == "\n" else blank + piece)
            blank = "" if piece == "\n" else " "
        return "".join(text).encode()

    def content(self) -> tuple[dict[str, Any], bytes]:
        """Its words, and whether there is an end of text."""
        return {"words": self.words, "end_of_text": self.eos_id is not None}, b""

    @classmethod
    def from_content(cls, fields: dict[str, Any], content: bytes) -> Self:
        """What `content` was taken from."""
        return cls(fields["words"], end_of_text=fields["end_of_text"])
