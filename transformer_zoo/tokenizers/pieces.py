"""What a vocabulary of pieces is, a tokenizer that has one, and SentencePiece's, with ids of its own or of a list."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property

import sentencepiece as spm

from transformer_zoo.tokenizers.normalization import stand_ins
from transformer_zoo.tokenizers.tokenizer import Spelling, Tokenizer, check_unicode


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


class SentencePieces(Pieces):
    """A SentencePiece model, by its own ids or by those of another list.

    Args:
        model: The model.
        ids: Piece to id, which may have pieces that SentencePiece does not; None: SentencePiece's own ids.
        unk: The piece for what the list does not have.

    Attributes:
        marks: Finds, as its only group, what is not cut into pieces but is a token of `ids`; here nothing.
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
        """Id of what `marks` found."""
        return self.ids.get(mark, self._unk_id)

    @cached_property
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


class PiecesTokenizer(Tokenizer):
    """A tokenizer that has a vocabulary of pieces."""

    vocabulary: Pieces

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self.vocabulary.encode_batch(texts)

    def decode(self, ids: Sequence[int]) -> str:
        return super().decode(ids).translate(self.vocabulary.stand_ins)

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
