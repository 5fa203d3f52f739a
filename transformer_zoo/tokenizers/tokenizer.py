"""What a tokenizer is, whatever its kind: text to ids and back."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as FastTokenizer

from transformer_zoo.errors import UserError
from transformer_zoo.files import write_json, write_text
from transformer_zoo.tokenizers.kinds import kind_of
from transformer_zoo.tokenizers.saved import Saved
from transformer_zoo.tokenizers.settings import USUAL, Normalization, TokenizerSettings, TranslationTokenizerSettings

END_OF_TEXT = "<|endoftext|>"  # what the id between documents looks like when it is decoded
UNKNOWN = " ⁇ ".encode()  # what was unknown in a line
PLAIN = {"clean_up_tokenization_spaces": False, "model_max_length": int(1e30)}
"""In tokenizer_config.json: blanks before punctuation stay, and nothing is cut."""
Ids = NDArray[Any]

# Between the bytes of tokens: nothing; nothing, and the text's first blank is left out; a blank.
Blanks = Literal["kept", "first dropped", "between"]
Spelling = tuple[Mapping[int, bytes], Blanks]


class SideLines(NamedTuple):
    """Lines of one language; of those of a target every character is to be writable."""

    lines: Sequence[str]
    normalization: Normalization
    is_target: bool


class Tokenizer(Saved):
    """Text to ids and back: that of a language model, or of one side of a translation.

    A kind says `make`, one of `encode_array` and `encode_batch`, and `spelling` or `decode_bytes`; all else is the same
    for all, and can be said better.
    >>> CharacterTokenizer("abc").save("folder")
    >>> Tokenizer.load("folder").decode([2, 0, 1])
    'cab'

    Attributes:
        reads: Settings that have an effect on this kind.
        needs: Those that must be given.
        is_closed: Whether it refuses a text with what it was not trained on.
        vocab_size: Number of ids.
        eos_id: The id after each document or line, which no text encodes to (of imported tokenizers its name does);
            None if there is none.
        pad_id, unk_id, bos_id: Of padding, of what is unknown, of a begin; None where the kind has none.
        start_ids: What a prompt begins with; nothing, but in some models that were trained elsewhere.
        end_ids: What follows a text that an encoder reads, likewise.
        special_ids: What no text is made of, but for its end: unknown, padding, begin. Imported tokenizers name none:
            their models write as they did elsewhere.
        chat_template: How a conversation is written for the model, in Jinja; None: nothing says so.
        named_tokens: Special tokens by their roles, such as "eos_token", as a template calls them.
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
    end_ids: tuple[int, ...] = ()
    special_ids: Collection[int] = ()
    chat_template: str | None = None
    named_tokens: Mapping[str, str] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.encode_array is Tokenizer.encode_array and cls.encode_batch is Tokenizer.encode_batch:
            raise TypeError(f"{cls.__name__} has neither encode_array nor encode_batch")

    @classmethod
    def make(cls, texts: Iterable[str], settings: TokenizerSettings = USUAL) -> Self:
        """The one that the settings describe; it may learn from the texts, all that it is to read or parts of them.

        UserError: the texts are not enough for the settings, or something is not there.
        """
        raise NotImplementedError(f"{cls.__name__} is made of other tokenizers")

    @classmethod
    def make_sides(
        cls, settings: TranslationTokenizerSettings, vocab_size: int, sides: Sequence[SideLines], *, seed: int
    ) -> "list[Tokenizer]":
        """One for each of these sides of a translation, all of the same pieces. `LineTokenizer` adds what they lack."""
        texts = (line for side in sides for line in side.lines)
        return [cls.make(texts, settings.of_kind(cls.kind, vocab_size))] * len(sides)

    def encode_array(self, text: str) -> Ids:
        """Ids of a text, (N,), without end-of-text. UserError: the vocabulary cannot spell it, or it is not Unicode."""
        return np.array(self.encode_batch([text])[0], np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts. Raises UserError as `encode_array`."""
        return [self.encode(text) for text in texts]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without end-of-text. Raises UserError as `encode_array`."""
        return self.encode_array(text).tolist()  # type: ignore[no-any-return]

    @cached_property
    def spelling(self) -> Spelling:
        """Bytes of each id that stands for text, and what becomes of the blanks around it."""
        raise NotImplementedError(f"{type(self).__name__} has neither spelling nor decode_bytes")

    @cached_property
    def starts(self) -> Collection[int | None]:
        """Ids after which a text begins."""
        return (self.bos_id,)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 of the ids; the last character may be cut. Special tokens, and numbers that are no token, give nothing.

        More ids only ever add bytes at the end, which depend on no id but the one before. Where the vocabulary writes a
        blank before the first word (SentencePiece), the one at the start is left out.
        """
        spelled, blanks = self.spelling
        if blanks == "kept":
            return b"".join([spelled.get(i, b"") for i in ids])
        parts, is_first, starts = [], True, self.starts
        for i in ids:
            part = spelled.get(i, b"")
            if is_first and blanks == "first dropped":
                part = part.removeprefix(b" ")
            elif not is_first and part and blanks == "between":
                part = b" " + part
            parts.append(part)
            is_first = i in starts
        return b"".join(parts)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; bytes that are no UTF-8 become the replacement character."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def readable(self, ids: Sequence[int]) -> list[str]:
        r"""What each id adds to the text of those before it, its blank included, as `" leaves"`; half a character as
        `\xc3`, and what is no text, such as the end, by its name."""
        shown: list[str] = []
        for place, i in enumerate(ids):
            before = ids[place - 1 : place] if place else []
            added = self.decode_bytes([*before, i])[len(self.decode_bytes(before)) :]
            shown.append(added.decode("utf-8", "backslashreplace") or self.pieces[i])
        return shown

    def draw(self, texts: Sequence[str], *, alpha: float, seed: int) -> list[list[int]]:
        """Ids of several texts, drawn among the ways to cut them by these arguments alone. UserError: there is one."""
        raise UserError(f"tokenizer.sample_alpha: {self.name} draws no pieces; set 0")

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
        """The same in the `tokenizers` library, but for its special tokens. UserError where there is none."""
        raise UserError(f"{self.name}: transformers has no counterpart of this tokenizer")

    @classmethod
    def check_export(cls, model_type: str) -> None:
        """Whether `transformers` has a counterpart of this kind in a model of this type. UserError: it has none."""
        if model_type == "qwen2":
            raise UserError(
                f"model_type {model_type}: transformers takes its own tokenizer for such a model and would ignore this "
                f"one ({cls.kind})"
            )
        if cls.fast is Tokenizer.fast:
            raise UserError(f"{cls.kind}: transformers has no counterpart of this tokenizer")

    def export(self, folder: str | Path, *, model_type: str) -> None:
        """Write the files that `transformers.AutoTokenizer` reads, beside the config.json of a model of this type.

        It gives the same ids, but for a special token that is written in a text, such as `</s>`, which it takes for
        the token, where ours take it for text.

        Raises:
            UserError: `transformers` has no counterpart of the tokenizer, or none in a model of this type.
        """
        self.check_export(model_type)
        fast, folder = self.fast(), Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        token = None if self.eos_id is None else fast.id_to_token(self.eos_id)
        fast.add_special_tokens([] if token is None else [token])
        special = {} if token is None else {"eos_token": token, "bos_token": token}
        write_text(folder / "tokenizer.json", fast.to_str(pretty=True))
        about = {"tokenizer_class": "PreTrainedTokenizerFast", **special, **PLAIN}
        write_json(folder / "tokenizer_config.json", about)


class Pieces(ABC):
    """Text to ids, without the special tokens around it, and what the ids are as text.

    Attributes:
        ids: Id of each token.
        stand_ins: What some characters of a decoded text stand for.
    """

    stand_ins: Mapping[int, str] = {}

    def __init__(self, ids: Mapping[str, int]) -> None:
        self.ids, self.n_ids = ids, max(ids.values(), default=-1) + 1

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text. UserError for a text that is not Unicode, or that the vocabulary cannot spell."""

    @cached_property
    @abstractmethod
    def spelling(self) -> Spelling:
        """As a tokenizer's. UserError: the decoder is none that gives each token its own bytes."""

    def tag_of(self, text: str) -> str:
        """The code of a language that a text begins with; mostly ""."""
        return ""

    def finished(self, text: str) -> str:
        """What a decoded text is as a whole."""
        return text.translate(self.stand_ins)


class PiecesTokenizer(Tokenizer):
    """A tokenizer that has a vocabulary of pieces."""

    vocabulary: Pieces

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self.vocabulary.encode_batch(texts)

    def decode(self, ids: Sequence[int]) -> str:
        return self.vocabulary.finished(super().decode(ids))

    def readable(self, ids: Sequence[int]) -> list[str]:
        return [piece.translate(self.vocabulary.stand_ins) for piece in super().readable(ids)]

    def tag_of(self, text: str) -> str:
        return self.vocabulary.tag_of(text)

    @cached_property
    def spelling(self) -> Spelling:
        return self.vocabulary.spelling

    @cached_property
    def pieces(self) -> list[str]:
        """The tokens, as the vocabulary has them; in SentencePiece ▁ is a blank."""
        tokens = {i: token for token, i in self.vocabulary.ids.items()}
        return [tokens.get(i, "") for i in range(self.vocab_size)]


def make_tokenizer(settings: TokenizerSettings, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that the settings describe; `texts` are read by the kinds that learn from them.
    >>> make_tokenizer(TokenizerSettings(kind="characters"), ["banana"]).encode("nab")
    [2, 0, 1]

    Raises:
        UserError: the settings contradict each other, or the texts are not enough for them.
    """
    settings.check()
    return kind_of(settings.kind).make(texts, settings)


def utf8(text: str, name: str = "the text") -> bytes:
    """UTF-8 of a text. UserError if it holds a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        found = text[error.start : error.start + 20]
        raise UserError(f"{name} is not valid Unicode (a lone surrogate): {found!a}") from None


def check_unicode(texts: Sequence[str]) -> None:
    """UserError: one of the texts, which is called by its number, holds a lone surrogate."""
    for number, text in enumerate(texts, start=1):
        utf8(text, "the text" if len(texts) == 1 else f"text {number} of {len(texts)}")
