"""Tokenizers of lines: any kind on a side of a translation."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Self

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.kinds import kind_of
from transformer_zoo.tokenizers.settings import BOS_ID, EOS_ID, N_SPECIAL, PAD_ID, UNK_ID, USUAL, TokenizerSettings
from transformer_zoo.tokenizers.tokenizer import UNKNOWN, Tokenizer, utf8


class LineTokenizer(Tokenizer):
    """Another tokenizer's ids behind four that it lacks: pad 0, unk 1, bos 2, eos 3.

    What it cannot spell is unknown; its own end of text is in no line.

    Args:
        inner: The other tokenizer.
    """

    kind, made_of = "lines", ("inner",)
    pad_id, unk_id, bos_id, eos_id = PAD_ID, UNK_ID, BOS_ID, EOS_ID

    def __init__(self, inner: Tokenizer) -> None:
        self.inner, self.vocab_size = inner, N_SPECIAL + inner.vocab_size
        unwritten = {*inner.special_ids} if inner.eos_id is None else {*inner.special_ids, inner.eos_id}
        self.special_ids = frozenset({PAD_ID, UNK_ID, BOS_ID, *(N_SPECIAL + i for i in unwritten)})

    @property
    def name(self) -> str:
        return f"lines of {self.inner.name}"

    @classmethod
    def make(cls, texts: Iterable[str], settings: TokenizerSettings = USUAL) -> Self:
        """Around that of the settings."""
        return cls(kind_of(settings.kind).make(texts, settings))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            return [[N_SPECIAL + i for i in row] for row in self.inner.encode_batch(texts)]
        except UserError:
            return [self._spell(text) for text in texts]

    def _spell(self, text: str) -> list[int]:
        """Ids of a text, character by character where it cannot be spelled as a whole."""
        try:
            return [N_SPECIAL + i for i in self.inner.encode(text)]
        except UserError:
            utf8(text)
            return [UNK_ID] if len(text) == 1 else [i for character in text for i in self._spell(character)]

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 of the line; pad, bos and eos give nothing, unk gives " ⁇ "."""
        parts, run = [], []
        for i in ids:
            if i >= N_SPECIAL and i - N_SPECIAL != self.inner.eos_id:
                run.append(i - N_SPECIAL)
            elif i == UNK_ID:
                parts += [self.inner.decode_bytes(run), UNKNOWN]
                run = []
        return b"".join([*parts, self.inner.decode_bytes(run)])

    @cached_property
    def pieces(self) -> list[str]:
        return ["<pad>", "<unk>", "<s>", "</s>", *self.inner.pieces]
