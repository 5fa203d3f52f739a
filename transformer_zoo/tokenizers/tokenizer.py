"""What a tokenizer of any kind is: text to ids and back."""

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

END_OF_TEXT = "<|endoftext|>"  # how the id between documents looks in decoded text
UNKNOWN = " ⁇ ".encode()  # stands for unknown text in a line
PLAIN = {"clean_up_tokenization_spaces": False, "model_max_length": int(1e30)}
"""In tokenizer_config.json: blanks before punctuation stay, and nothing is removed."""
Ids = NDArray[Any]

# Between the bytes of tokens: nothing; nothing, with the text's first blank left out; a blank.
Blanks = Literal["kept", "first dropped", "between"]
Spelling = tuple[Mapping[int, bytes], Blanks]


class SideLines(NamedTuple):
    """Lines of one language; if they are targets, every character must be writable."""

    lines: Sequence[str]
    normalization: Normalization
    is_target: bool


class Tokenizer(Saved):
    """Text to ids and back, for a language model or for one side of a translation.

    A kind must define `make`, one of `encode_array` and `encode_batch`, and `spelling` or `decode_bytes`. Everything
    else is common to all kinds, and can be overridden.
    >>> CharacterTokenizer("abc").save("folder")
    >>> Tokenizer.load("folder").decode([2, 0, 1])
    'cab'

    Attributes:
        reads: Settings that have an effect on this kind.
        needs: Settings that must be given.
        is_closed: Whether it refuses text with characters that it was not trained on.
        vocab_size: Number of ids.
        eos_id: The id after each document or line; None if there is none. No text encodes to it, except its name with
            imported tokenizers.
        pad_id, unk_id, bos_id: The ids of padding, of unknown text and of a begin; None if the kind has none.
        start_ids: The ids that a prompt begins with; empty, except in some models that were trained elsewhere.
        end_ids: The ids that follow a text for an encoder; empty, except in some models that were trained elsewhere.
        special_ids: Ids that are never part of a text: unknown, padding, begin; the end is not among them. Imported
            tokenizers have none here, because their models write as they did elsewhere.
        chat_template: How a conversation is written for the model, in Jinja; None: it is not known.
        named_tokens: Special tokens by their roles, such as "eos_token", for use in a template.
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
        """The tokenizer that the settings describe. It may learn from the texts, which are all or some that it will
        read.

        UserError: the texts are not enough for the settings, or something is missing.
        """
        raise NotImplementedError(f"{cls.__name__} is made of other tokenizers")

    @classmethod
    def make_sides(
        cls, settings: TranslationTokenizerSettings, vocab_size: int, sides: Sequence[SideLines], *, seed: int
    ) -> "list[Tokenizer]":
        """One tokenizer for each of these sides of a translation, all with the same pieces. `LineTokenizer` adds the
        rest."""
        texts = (line for side in sides for line in side.lines)
        return [cls.make(texts, settings.of_kind(cls.kind, vocab_size))] * len(sides)

    def encode_array(self, text: str) -> Ids:
        """Ids of a text, (N,), without end-of-text. UserError: the vocabulary cannot spell it, or it is not Unicode."""
        return np.array(self.encode_batch([text])[0], np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts. UserError: as for `encode_array`."""
        return [self.encode(text) for text in texts]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without end-of-text. UserError: as for `encode_array`."""
        return self.encode_array(text).tolist()  # type: ignore[no-any-return]

    @cached_property
    def spelling(self) -> Spelling:
        """Bytes of each id that stands for text, and how the blanks around it are treated."""
        raise NotImplementedError(f"{type(self).__name__} has neither spelling nor decode_bytes")

    @cached_property
    def starts(self) -> Collection[int | None]:
        """Ids after which a new text begins."""
        return (self.bos_id,)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 of the ids; the last character may be incomplete. Special tokens and numbers that are not tokens give
        nothing.

        More ids only add bytes at the end, which depend only on the id and the one before it. If the vocabulary writes
        a blank before the first word (SentencePiece), the blank at the start is left out.
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
        """Text of ids; bytes that are not UTF-8 become the replacement character."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def readable(self, ids: Sequence[int]) -> list[str]:
        r"""The text that each id adds to those before it, with its blank, as `" leaves"`; half a character as `\xc3`,
        and special tokens, such as the end, by name."""
        shown: list[str] = []
        for place, i in enumerate(ids):
            before = ids[place - 1 : place] if place else []
            added = self.decode_bytes([*before, i])[len(self.decode_bytes(before)) :]
            shown.append(added.decode("utf-8", "backslashreplace") or self.pieces[i])
        return shown

    def draw(self, texts: Sequence[str], *, alpha: float, seed: int) -> list[list[int]]:
        """Ids of several texts, drawn among their possible segmentations by these arguments only. UserError: there is
        only one."""
        raise UserError(f"tokenizer.sample_alpha: {self.name} draws no pieces; set 0")

    def tag_of(self, text: str) -> str:
        """A tag at the start of a line that applies to all of it, such as the language to translate to; mostly ""."""
        return ""

    @property
    def name(self) -> str:
        """A description of it, for people."""
        return f"{self.kind} ({self.vocab_size:,})"

    @cached_property
    def pieces(self) -> list[str]:
        """The text of each id in readable form."""
        return [self.decode_bytes([i]).decode("utf-8", "backslashreplace") for i in range(self.vocab_size)]

    def fast(self) -> FastTokenizer:
        """The same tokenizer in the `tokenizers` library, without its special tokens. UserError: there is none."""
        raise UserError(f"{self.name}: transformers has no counterpart of this tokenizer")

    @classmethod
    def check_export(cls, model_type: str) -> None:
        """Check that `transformers` has a counterpart of this kind in a model of this type. UserError: it has none."""
        if model_type == "qwen2":
            raise UserError(
                f"model_type {model_type}: transformers takes its own tokenizer for such a model and would ignore this "
                f"one ({cls.kind})"
            )
        if cls.fast is Tokenizer.fast:
            raise UserError(f"{cls.kind}: transformers has no counterpart of this tokenizer")

    def export(self, folder: str | Path, *, model_type: str) -> None:
        """Write the files that `transformers.AutoTokenizer` reads, beside the config.json of a model of this type.

        It gives the same ids, except for a special token that is written in a text, such as `</s>`: there it becomes
        the token, and here it is plain text.

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
    """Text to ids, without special tokens around it, and ids to text.

    Attributes:
        ids: Id of each token.
        stand_ins: The meaning of some characters in a decoded text.
    """

    stand_ins: Mapping[int, str] = {}

    def __init__(self, ids: Mapping[str, int]) -> None:
        self.ids, self.n_ids = ids, max(ids.values(), default=-1) + 1

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text. UserError: a text is not Unicode, or the vocabulary cannot spell it."""

    @cached_property
    @abstractmethod
    def spelling(self) -> Spelling:
        """As for a tokenizer. UserError: the decoder does not give each token bytes of its own."""

    def tag_of(self, text: str) -> str:
        """The code of the language with which a text begins; mostly ""."""
        return ""

    def finished(self, text: str) -> str:
        """The final form of a whole decoded text."""
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
        """The tokens in the form of the vocabulary; in SentencePiece ▁ is a blank."""
        tokens = {i: token for token, i in self.vocabulary.ids.items()}
        return [tokens.get(i, "") for i in range(self.vocab_size)]


def make_tokenizer(settings: TokenizerSettings, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that the settings describe. Kinds that learn read `texts`.
    >>> make_tokenizer(TokenizerSettings(kind="characters"), ["banana"]).encode("nab")
    [2, 0, 1]

    Raises:
        UserError: the settings contradict each other, or the texts are not enough for them.
    """
    settings.check()
    return kind_of(settings.kind).make(texts, settings)


def utf8(text: str, name: str = "the text") -> bytes:
    """UTF-8 of a text. UserError: it contains a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        found = text[error.start : error.start + 20]
        raise UserError(f"{name} is not valid Unicode (a lone surrogate): {found!a}") from None


def check_unicode(texts: Sequence[str]) -> None:
    """Check texts, which an error names by number. UserError: one contains a lone surrogate."""
    for number, text in enumerate(texts, start=1):
        utf8(text, "the text" if len(texts) == 1 else f"text {number} of {len(texts)}")
