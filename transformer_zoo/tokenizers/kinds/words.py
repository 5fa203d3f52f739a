"""Each word is a token."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.settings import USUAL, TokenizerSettings
from transformer_zoo.tokenizers.tokenizer import END_OF_TEXT, Ids, Tokenizer, utf8


class WordTokenizer(Tokenizer):
    r"""Text between white space is a token, and so is each line's end. Id 0 is `<unk>`, 1 is `\n`.
    >>> WordTokenizer(["to", "be"]).encode("to be or")
    [2, 3, 0]

    Args:
        words: The vocabulary without those two, in the order of its ids.
        end_of_text: Whether there is an id for the end of a document; it is the last.
    """

    kind, reads, made_of = "words", ("vocab_size", "end_of_text"), ("words", "end_of_text")
    special_ids, unk_id = (0,), 0

    def __init__(self, words: Sequence[str], *, end_of_text: bool = True) -> None:
        if not isinstance(end_of_text, bool):
            raise ValueError(f"end_of_text is {end_of_text!r}, expected True or False")
        self.words, self.end_of_text = list(words), end_of_text
        self.pieces = ["<unk>", "\n", *self.words]
        self._ids = {piece: i for i, piece in enumerate(self.pieces)}
        if len(self._ids) != len(self.pieces):
            raise UserError("words: the vocabulary has a word twice")
        self.eos_id = len(self.pieces) if end_of_text else None
        self.pieces += [END_OF_TEXT] * end_of_text
        self.vocab_size = len(self.pieces)

    @classmethod
    def make(cls, texts: Iterable[str], settings: TokenizerSettings = USUAL) -> Self:
        """The words of the texts, the most frequent first; `vocab_size` limits the number of ids."""
        counts = Counter(word for text in texts for word in text.split() if word != "<unk>")
        words = sorted(counts, key=lambda word: (-counts[word], word))
        vocab_size, n_special = settings.vocab_size, 2 + settings.end_of_text
        if vocab_size is not None and vocab_size <= n_special:
            raise UserError(f"vocab_size: {vocab_size} leaves no room for words beside the {n_special} special ones")
        words = words[: None if vocab_size is None else vocab_size - n_special]
        return cls(words, end_of_text=settings.end_of_text)

    def encode_array(self, text: str) -> Ids:
        utf8(text)
        known = self._ids.get
        ids: list[int] = []
        for line in text.split("\n"):
            ids += [known(word, 0) for word in line.split()]
            ids.append(1)
        return np.array(ids[:-1], np.int32)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        text, blank = [], ""
        for piece in (self.pieces[i] for i in ids):
            text.append(piece if piece == "\n" else blank + piece)
            blank = "" if piece == "\n" else " "
        return "".join(text).encode()

    def fast(self) -> FastTokenizer:
        fast = FastTokenizer(models.WordLevel({piece: i for i, piece in enumerate(self.pieces)}, unk_token="<unk>"))
        blanks = "".join(map(chr, filter(lambda i: chr(i).isspace() and chr(i) != "\n", range(0x3001))))
        fast.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(f"[{blanks}]+"), "removed"), pre_tokenizers.Split("\n", "isolated")]
        )
        between = [decoders.Replace(Regex("^"), " "), decoders.Fuse(), decoders.Replace(Regex(" ?\n ?"), "\n")]
        fast.decoder = decoders.Sequence([*between, decoders.Strip(" ", 1, 0)])
        return fast
