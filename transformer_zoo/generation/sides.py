"""What is asked of the tokenizers of both languages."""

from collections.abc import Sequence
from typing import Protocol


class Side(Protocol):
    """What is asked of the tokenizer of one language: ids, and back.

    Of special tokens only those that every text of the language has at its start, such as its tag, are among them.
    """

    def encode_batch(self, texts: Sequence[str], /) -> list[list[int]]:
        """Ids of each text."""
        ...

    def tag_of(self, text: str, /) -> str:
        """What a text has at its start that goes for all of it, such as the language to translate to; mostly ""."""
        ...

    def decode(self, ids: Sequence[int], /) -> str:
        """Text of these ids."""
        ...


class Tokenizer(Protocol):
    """The tokenizers of both languages."""

    @property
    def source(self) -> Side:
        """Of the language translated from."""
        ...

    @property
    def target(self) -> Side:
        """Of the language translated to."""
        ...
