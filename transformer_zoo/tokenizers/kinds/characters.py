"""Each character is a token."""

from collections.abc import Iterable
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.settings import USUAL, TokenizerSettings
from transformer_zoo.tokenizers.tokenizer import END_OF_TEXT, Ids, Tokenizer, utf8


class CharacterTokenizer(Tokenizer):
    """Each character is a token.
    >>> CharacterTokenizer("abc").encode("cab")
    [2, 0, 1]

    Args:
        characters: The vocabulary, in the order of its ids.
        end_of_text: Whether there is an id for the end of a document; it is the last.
    """

    kind, reads, made_of, is_closed = "characters", ("end_of_text",), ("characters", "end_of_text"), True

    def __init__(self, characters: str, *, end_of_text: bool = True) -> None:
        codes = _codes(characters)
        if not isinstance(end_of_text, bool):
            raise ValueError(f"end_of_text is {end_of_text!r}, expected True or False")
        if not len(codes) or len(set(characters)) != len(characters):
            raise UserError("characters: the vocabulary is empty or has a character twice")
        self.characters, self.end_of_text = characters, end_of_text
        self.spelling = dict(enumerate([*map(utf8, characters), *([END_OF_TEXT.encode()] * end_of_text)])), "kept"
        self._table = np.full(int(codes.max()) + 2, -1, np.int32)  # the last entry stands for all higher characters
        self._table[codes] = np.arange(len(codes))
        self.eos_id = len(codes) if end_of_text else None
        self.vocab_size = len(codes) + end_of_text

    @classmethod
    def make(cls, texts: Iterable[str], settings: TokenizerSettings = USUAL) -> Self:
        characters = set[str]()
        for text in texts:
            characters.update(text)
        return cls("".join(sorted(characters)), end_of_text=settings.end_of_text)

    def encode_array(self, text: str) -> Ids:
        codes = _codes(text)
        ids = self._table[np.minimum(codes, len(self._table) - 1)]
        if len(unknown := codes[ids < 0]):
            character = chr(unknown[0])
            raise UserError(
                f"character {character!r} (U+{unknown[0]:04X}) is not among the {len(self.characters)} of the "
                "vocabulary; leave it out, or train with another kind of tokenizer (bytes know every text)"
            )
        return ids

    def fast(self) -> FastTokenizer:
        words = {character: i for i, character in enumerate(self.characters)}
        if self.eos_id is not None:
            words[END_OF_TEXT] = self.eos_id
        fast = FastTokenizer(models.WordLevel(words))
        fast.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        fast.decoder = decoders.Fuse()
        return fast


def _codes(text: str) -> NDArray[np.uint32]:
    utf8(text)
    return np.frombuffer(text.encode("utf-32-le"), "<u4")
