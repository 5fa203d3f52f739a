"""Each byte is a token."""

from collections.abc import Iterable
from functools import cached_property
from typing import Self

import numpy as np
from tokenizers import Tokenizer as FastTokenizer

from transformer_zoo.tokenizers.json_pieces import ALPHABET, byte_level
from transformer_zoo.tokenizers.settings import USUAL, TokenizerSettings
from transformer_zoo.tokenizers.tokenizer import END_OF_TEXT, Ids, Spelling, Tokenizer, utf8


class ByteTokenizer(Tokenizer):
    """Each byte of the UTF-8 is a token, ids 0 to 255; 256 is the end of text.
    >>> ByteTokenizer().encode("Hi")
    [72, 105]
    """

    kind, vocab_size, eos_id = "bytes", 257, 256

    @classmethod
    def make(cls, texts: Iterable[str], settings: TokenizerSettings = USUAL) -> Self:
        return cls()

    def encode_array(self, text: str) -> Ids:
        return np.frombuffer(utf8(text), np.uint8)

    @cached_property
    def spelling(self) -> Spelling:
        return {**{i: bytes([i]) for i in range(256)}, 256: END_OF_TEXT.encode()}, "kept"

    def fast(self) -> FastTokenizer:
        vocabulary = {character: byte for byte, character in enumerate(ALPHABET)}
        return byte_level({**vocabulary, END_OF_TEXT: 256}, [])
