"""What a tokenizer is, whatever its kind: text to ids and back; and how it lies on the disk."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from numpy.typing import NDArray
from tokenizers import Tokenizer as FastTokenizer
from xxhash import xxh3_64_hexdigest

from transformer_zoo.checksums import read_fields, write_fields
from transformer_zoo.errors import UserError
from transformer_zoo.files import read_bytes, write_bytes, write_json
from transformer_zoo.tokenizers.kinds import KINDS, kind_of
from transformer_zoo.tokenizers.normalization import Normalization
from transformer_zoo.tokenizers.settings import USUAL, TokenizerSettings, TranslationTokenizerSettings

END_OF_TEXT = "<|endoftext|>"  # what the id between documents looks like when it is decoded
PLAIN = {"clean_up_tokenization_spaces": False, "model_max_length": int(1e30)}
"""In tokenizer_config.json: blanks before punctuation stay, and nothing is cut."""
INDEX = "tokenizer_kind.json"
Ids = NDArray[Any]

# `transformers` builds the tokenizer of such a model by itself, whatever tokenizer.json says.
_OWN_PRE_TOKENIZER = ("qwen2",)
_AGAIN = "save the tokenizer again"


class Saved(ABC):
    """What a folder keeps: `tokenizer_kind.json` says what it is and has its checksums, its files lie beside."""

    kind: ClassVar[str]
    made_of: ClassVar[Sequence[str]] = ()
    """Arguments of the class, kept under the same names."""

    def content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """All there is to it: fields that JSON can hold, and files by their names. By default what it was made of."""
        return {name: getattr(self, name) for name in self.made_of}, {}

    @classmethod
    def from_content(cls, fields: dict[str, Any], files: dict[str, bytes]) -> Self:
        """What `content` was taken from."""
        return cls(**fields)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the vocabulary: equal for tokenizers that give the same ids."""
        fields, files = self.content()
        digest = hashlib.sha256(json.dumps({"kind": self.kind, **fields}, sort_keys=True).encode())
        for name in sorted(files):
            digest.update(f"\n{name} {len(files[name])}\n".encode() + files[name])
        return digest.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write it into the folder, in place of any other tokenizer there."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        fields, files = self.content()
        for name, content in files.items():  # until the index has their sums, they are refused
            write_bytes(folder / name, content)
        sums = {name: xxh3_64_hexdigest(content) for name, content in files.items()}
        write_fields(folder / INDEX, {"kind": self.kind, "files": sums, **fields})


T = TypeVar("T", bound=Saved)


def load_saved(folder: str | Path, class_of: Callable[[str], type[T] | None]) -> T:
    """What `save` wrote, if it is of one of the kinds that `class_of` knows.

    Raises:
        UserError: there is no tokenizer, or another kind, or it is damaged.
    """
    folder = Path(folder)
    try:
        fields = read_fields(folder / INDEX, remedy=_AGAIN)
        kind, sums = fields.pop("kind"), fields.pop("files")
        if any(Path(name).name != name for name in sums):
            raise ValueError
        files = {name: read_bytes(folder / name) for name in sums}
        for name, content in files.items():
            if xxh3_64_hexdigest(content) != sums[name]:
                raise UserError(f"{folder / name} is damaged, or was changed after it was written: {_AGAIN}")
        if (found := class_of(kind)) is None:
            raise UserError(f"{folder}: a tokenizer of kind {kind!r}, which is none for this model")
        return found.from_content(fields, files)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no tokenizer here ({Path(error.filename).name})") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot read the tokenizer ({error.strerror})") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{folder / INDEX} is damaged, or from a newer version: {_AGAIN}") from None


class SideLines(NamedTuple):
    """Lines of one language; of those of a target every character is to be writable."""

    lines: Sequence[str]
    normalization: Normalization
    is_target: bool


class Tokenizer(Saved):
    """Text to ids and back: that of a language model, or of one side of a translation.

    A kind says how; all else is the same for all, and can be said better.

    Attributes:
        reads: Settings that have an effect on this kind.
        needs: Those that must be given.
        is_closed: Whether it refuses a text with what it was not trained on.
        vocab_size: Number of ids.
        eos_id: The id after each document or line, which no text encodes to (of imported tokenizers its name does);
            None if there is none.
        pad_id, unk_id, bos_id: Of padding, of what is unknown, of a begin; None where the kind has none.
        start_ids: What a prompt begins with; nothing, but in some models that were trained elsewhere.
        special_ids: What no text is made of, but for its end: unknown, padding, begin. Imported tokenizers name none:
            their models write as they did elsewhere.
    """

    reads: ClassVar[Collection[str]] = ()
    needs: ClassVar[Collection[str]] = ()
    is_closed: ClassVar[bool] = False
    vocab_size: int
    eos_id: int | None = None
    pad_id: int | None = None
    unk_id: int | None = None
    bos_id: int | None = None
    start_ids: tuple[int, ...] = ()
    special_ids: Collection[int] = ()

    @classmethod
    @abstractmethod
    def make(cls, texts: Iterable[str], settings: TokenizerSettings = USUAL) -> Self:
        """The one that the settings describe; it may learn from the texts, all that it is to read or parts of them.

        Raises:
            UserError: the texts are not enough for the settings, or something is not there.
        """

    @classmethod
    def make_sides(
        cls, settings: TranslationTokenizerSettings, vocab_size: int, sides: Sequence[SideLines], *, seed: int
    ) -> "list[Tokenizer]":
        """One for each of these sides of a translation, all of the same pieces. `LineTokenizer` adds what they lack."""
        texts = (line for side in sides for line in side.lines)
        return [cls.make(texts, settings.of_kind(cls.kind, vocab_size))] * len(sides)

    @abstractmethod
    def encode_array(self, text: str) -> Ids:
        """Ids of a text, (N,), without end-of-text.

        Raises:
            UserError: the vocabulary cannot spell the text, or the text is not Unicode.
        """

    @abstractmethod
    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 of the ids; the last character may be cut. More ids only ever add bytes at the end, which depend on no
        id but the one before."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without end-of-text. Raises UserError as `encode_array`."""
        return self.encode_array(text).tolist()  # type: ignore[no-any-return]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts. Raises UserError as `encode_array`."""
        return [self.encode(text) for text in texts]

    def draw(self, texts: Sequence[str], *, alpha: float, seed: int) -> list[list[int]]:
        """Ids of several texts, drawn among the ways to cut them: a pure function of the arguments.

        Raises:
            UserError: the kind has one way only.
        """
        raise UserError(f"tokenizer.sample_alpha: {self.name} draws no pieces; set 0")

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; bytes that are no UTF-8 become the replacement character."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def tag_of(self, text: str) -> str:
        """What a line has at its start that goes for all of it, such as the language to translate to; mostly ""."""
        return ""

    @property
    def name(self) -> str:
        """What it is, for people."""
        return f"{self.kind} ({self.vocab_size:,})"

    @cached_property
    def pieces(self) -> list[str]:
        """What each id stands for, as people can read it."""
        return [self.decode_bytes([i]).decode("utf-8", "backslashreplace") for i in range(self.vocab_size)]

    def fast(self) -> FastTokenizer:
        """The same in the `tokenizers` library. UserError where there is none."""
        raise UserError(f"{self.name}: transformers has no counterpart of this tokenizer")

    def export(self, folder: str | Path, *, model_type: str) -> None:
        """Write the files that `transformers.AutoTokenizer` reads, beside the config.json of a model of this type.

        It gives the same ids, but for a special token that is written in a text, such as `</s>`, which it takes for
        the token, where ours take it for text.

        Raises:
            UserError: `transformers` has no counterpart of the tokenizer, or none in a model of this type.
        """
        if model_type in _OWN_PRE_TOKENIZER:
            raise UserError(
                f"model_type {model_type}: transformers takes its own tokenizer for such a model and would ignore this "
                f"one ({self.name})"
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        fast = self.fast()
        token = None if self.eos_id is None else fast.id_to_token(self.eos_id)
        special = {} if token is None else {"eos_token": token, "bos_token": token}
        write_json(folder / "tokenizer.json", json.loads(fast.to_str()))
        about = {"tokenizer_class": "PreTrainedTokenizerFast", **special, **PLAIN}
        write_json(folder / "tokenizer_config.json", about)


def make_tokenizer(settings: TokenizerSettings, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that the settings describe; `texts` are read by the kinds that learn from them.

    Raises:
        UserError: the settings contradict each other, or the texts are not enough for them.
    """
    settings.check()
    return kind_of(settings.kind).make(texts, settings)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """A tokenizer that was saved. UserError if there is none, or if it is damaged."""
    return load_saved(folder, lambda kind: kind_of(kind) if kind in KINDS else None)


def utf8(text: str) -> bytes:
    """UTF-8 of a text. UserError if it holds a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UserError(not_unicode([text])) from None


def not_unicode(texts: Sequence[str]) -> str:
    """What to say of texts that could not be encoded, because one holds a lone surrogate."""
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            which = "the text" if len(texts) == 1 else f"text {number} of {len(texts)}"
            return f"{which} is not valid Unicode (a lone surrogate): {text[error.start : error.start + 20]!a}"
    return "the text could not be encoded"
