"""Each byte is a token."""

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

from transformer_zoo.tokenizers.json_pieces import BYTE_ALPHABET
from transformer_zoo.tokenizers.settings import USUAL, TokenizerSettings
from transformer_zoo.tokenizers.tokenizer import END_OF_TEXT, Ids, Tokenizer, utf8


class ByteTokenizer(Tokenizer):
    """Each byte of the UTF-8 is a token, ids 0 to 255; 256 is the end of text."""

    kind, vocab_size, eos_id = "bytes", 257, 256

    @classmethod
    def make(cls, texts: Iterable[str], settings: TokenizerSettings = USUAL) -> Self:
        """The one there is."""
        return cls()

    def encode_array(self, text: str) -> Ids:
        """The bytes of a text, (N,)."""
        return np.frombuffer(utf8(text), np.uint8)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes."""
        return b"".join(bytes([i]) if i < 256 else END_OF_TEXT.encode() for i in ids)

    def fast(self) -> FastTokenizer:
        """A byte-level BPE without merges."""
        vocabulary = {character: byte for byte, character in enumerate(BYTE_ALPHABET)}
        fast = FastTokenizer(models.BPE(vocab={**vocabulary, END_OF_TEXT: 256}, merges=[]))
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        fast.decoder = decoders.ByteLevel()
        fast.add_special_tokens([END_OF_TEXT])
        return fast
