"""Tokenizers of downloaded decoder-only models, from the files that are beside their weights.

The ids are those of the model's own tokenizer. Of several descriptions tokenizer.json counts first, then vocab.json
with merges.txt (GPT-2's byte-level BPE): with both a special token that is written in a text becomes itself. A
SentencePiece model comes last; to it every text is text.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from transformer_zoo.data.pieces import Blanks, JsonPieces, SentencePieces
from transformer_zoo.data.text_tokenizers import Ids, TextTokenizer, split_files
from transformer_zoo.data.tokenizer_files import TokenizerFiles
from transformer_zoo.errors import UserError

_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


class ImportedTextTokenizer(TextTokenizer):
    """A tokenizer that came with a model; `import_text_tokenizer` makes it.

    Args:
        files: What it is made of.
        vocab_size: Ids of the model, which often has more than the tokenizer; these are never encoded to, and stand
            for nothing.
        eos_id: The id that ends a text.
        start_ids: What the model's own tokenizer puts before a prompt.
    """

    kind = "huggingface"

    def __init__(self, files: TokenizerFiles, *, vocab_size: int, eos_id: int | None, start_ids: Sequence[int]) -> None:
        self.files, self.vocab_size, self.eos_id, self.start_ids = files, vocab_size, eos_id, tuple(start_ids)
        self._pieces = read_pieces(files)
        if outside := [i for i in (eos_id, *start_ids) if i is not None and not 0 <= i < vocab_size]:
            raise UserError(f"{files.folder}: the special id {outside[0]} is outside the model's {vocab_size} ids")

    def encode_array(self, text: str) -> Ids:
        """Ids of a text, (N,), without `start_ids`."""
        return np.array(self.encode_batch([text])[0], np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts, without `start_ids`."""
        rows = self._pieces.encode_batch(texts)
        if self._pieces.n_ids > self.vocab_size and (over := [i for row in rows for i in row if i >= self.vocab_size]):
            raise UserError(f"the text has token {over[0]}, and the model knows only {self.vocab_size}: leave it out")
        return rows

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 of the ids; special tokens, and numbers that are no token, give nothing.

        Where the vocabulary writes a blank before the first word (SentencePiece), the one at the start is left out.
        """
        spelled, blanks = self._spelling
        parts, is_first = [], True
        for i in ids:
            part = spelled.get(i, b"")
            if is_first and blanks == "first dropped":
                part = part.removeprefix(b" ")
            elif not is_first and part and blanks == "between":
                part = b" " + part
            parts.append(part)
            is_first = i in self._starts
        return b"".join(parts)

    @cached_property
    def _spelling(self) -> tuple[dict[int, bytes], Blanks]:
        return self._pieces.spelling()

    @cached_property
    def _starts(self) -> set[int | None]:
        """Ids after which a text begins."""
        return {*self.start_ids, self.special_id("bos_token")}

    def special_id(self, role: str) -> int | None:
        """The token of a role, such as "pad_token"; None where the files name none."""
        token = self.files.token(role)
        return None if token is None else self._pieces.id_of(token)

    def content(self) -> tuple[dict[str, Any], bytes]:
        """Sizes, special ids and the files as they were."""
        contents = self.files.contents
        fields = {
            "vocab_size": self.vocab_size,
            "eos_id": self.eos_id,
            "start_ids": list(self.start_ids),
            "model_type": self.files.model.get("model_type"),
            "files": {name: len(content) for name, content in contents.items()},
        }
        return fields, b"".join(contents.values())

    @classmethod
    def from_content(cls, fields: dict[str, Any], content: bytes) -> Self:
        """What `content` was taken from."""
        parts = split_files(fields, content)
        files = TokenizerFiles(Path("tokenizer"), parts, {"model_type": fields["model_type"]})
        return cls(files, vocab_size=fields["vocab_size"], eos_id=fields["eos_id"], start_ids=fields["start_ids"])


def import_text_tokenizer(folder: str | Path) -> ImportedTextTokenizer:
    """The tokenizer of the decoder-only model in `folder`, as it was downloaded.

    - `vocab_size` is that of config.json, where there is one: the model may have rows that no token uses.
    - `eos_id` is the eos_token of tokenizer_config.json, else of special_tokens_map.json, else the eos_token_id of
      config.json, of generation_config.json (the first if there are several), else that of the SentencePiece model.
    - `start_ids` is what the post-processor of tokenizer.json puts before a text; without that file the bos_token, if
      tokenizer_config.json has add_bos_token, or leaves it unsaid and the model is an OPT or has SentencePiece.

    Raises:
        UserError: no folder, no tokenizer in it, or a file that is damaged or of a kind that is not read.
    """
    files = TokenizerFiles.read(Path(folder))
    pieces = read_pieces(files)
    pieces.spelling()  # what cannot be shown is better refused now
    size = files.model.get("vocab_size")
    return ImportedTextTokenizer(
        files,
        vocab_size=size if type(size) is int and size > 0 else pieces.n_ids,
        eos_id=_special_id(files, pieces, "eos"),
        start_ids=_start_ids(files, pieces),
    )


def read_pieces(files: TokenizerFiles) -> JsonPieces | SentencePieces:
    """The vocabulary of a decoder-only model."""
    if "tokenizer.json" in files:
        return JsonPieces.load(files)
    if "merges.txt" in files:
        return JsonPieces.byte_level(files)
    if (name := files.first(*_SENTENCEPIECE)) is not None:
        pieces = SentencePieces(files.bytes_of(name), files.folder / name)
        pad = files.token("pad_token")  # nobody writes it
        if beyond := [token for token, i in files.added.items() if i >= pieces.n_ids and token != pad]:
            raise UserError(
                f"{files.folder}: {name} does not know the added token {beyond[0]!r} and would spell it out; save the "
                "tokenizer once with transformers' AutoTokenizer, which writes a tokenizer.json"
            )
        return pieces
    raise UserError(
        f"{files.folder}: no tokenizer of a decoder-only model (tokenizer.json, vocab.json with merges.txt, or "
        "tokenizer.model)"
    )


def _special_id(files: TokenizerFiles, pieces: JsonPieces | SentencePieces, role: str) -> int | None:
    """Id of the bos or eos token: by its text, by the model's configuration, by SentencePiece."""
    token = files.token(f"{role}_token")
    if token is not None and (i := pieces.id_of(token)) is not None:
        return i
    if (i := files.model_id(f"{role}_token_id")) is not None:
        return i
    if isinstance(pieces, SentencePieces):
        i = int(pieces.model.bos_id() if role == "bos" else pieces.model.eos_id())
        return i if i >= 0 else None
    usual = "</s>" if files.model.get("model_type") == "opt" else "<|endoftext|>"
    return pieces.id_of(usual) if "merges.txt" in files else None  # older files leave it unsaid


def _start_ids(files: TokenizerFiles, pieces: JsonPieces | SentencePieces) -> tuple[int, ...]:
    if isinstance(pieces, JsonPieces) and "tokenizer.json" in files:
        return pieces.start_ids
    usual = isinstance(pieces, SentencePieces) or files.model.get("model_type") == "opt"
    bos = _special_id(files, pieces, "bos")
    return (bos,) if bos is not None and files.settings.get("add_bos_token", usual) else ()
