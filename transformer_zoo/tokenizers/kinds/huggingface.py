"""Tokenizers of downloaded models, from the files beside their weights.

The ids are those of the model's own tokenizer. If there are several descriptions, tokenizer.json comes first, then
vocab.json with merges.txt (GPT-2's byte-level BPE). With both, a special token that is written in a text stands for
itself. A SentencePiece model comes last; it treats every text as plain text.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

from transformer_zoo.errors import UserError, naming
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.json_pieces import JsonPieces
from transformer_zoo.tokenizers.saved import write_files
from transformer_zoo.tokenizers.sentence_pieces import SentencePieces
from transformer_zoo.tokenizers.settings import USUAL, TokenizerSettings
from transformer_zoo.tokenizers.tokenizer import Pieces, PiecesTokenizer

_SAVE_ONCE = "save the tokenizer once with transformers' AutoTokenizer, which writes a tokenizer.json"
_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


class HuggingFaceTokenizer(PiecesTokenizer):
    """A tokenizer that came with a model; made by `read`.
    >>> ByteTokenizer().export("folder", model_type="gpt2")
    >>> HuggingFaceTokenizer.read("folder").decode(HuggingFaceTokenizer.read("folder").encode("Hi"))
    'Hi'

    Args:
        files: The files that it is made from.
        vocab_size: Number of ids of the model, which often has more than the tokenizer. The additional ids are never
            used, and stand for nothing.
        eos_id: The id that ends a text.
        start_ids: The ids that the model's own tokenizer puts before a prompt.
        pieces: The vocabulary in `files`, if it has been read already.
    """

    kind, reads, needs = "huggingface", ("folder",), ("folder",)
    made_of = ("files", "vocab_size", "eos_id", "start_ids")

    def __init__(
        self,
        files: TokenizerFiles,
        *,
        vocab_size: int,
        eos_id: int | None,
        start_ids: Sequence[int] = (),
        pieces: Pieces | None = None,
    ) -> None:
        self.files, self.vocab_size, self.eos_id, self.start_ids = files, vocab_size, eos_id, tuple(start_ids)
        self.vocabulary = read_pieces(files) if pieces is None else pieces
        self.chat_template, self.named_tokens = files.chat_template, files.named_tokens
        self.end_ids = self.vocabulary.around[1] if isinstance(self.vocabulary, JsonPieces) else ()
        if outside := [i for i in (eos_id, *start_ids) if i is not None and not 0 <= i < vocab_size]:
            raise UserError(f"{files.folder}: the special id {outside[0]} is outside the model's {vocab_size} ids")

    @classmethod
    def make(cls, texts: Iterable[str], settings: TokenizerSettings = USUAL) -> Self:
        assert settings.folder is not None  # it is needed
        with naming("tokenizer.folder"):
            return cls.read(Path(settings.folder).expanduser())

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """The tokenizer of the decoder-only model in `folder`, in the form in which it was downloaded.

        - `vocab_size` is that of config.json if it exists: the model may have rows that no token uses.
        - `eos_id` is the eos_token of tokenizer_config.json or of special_tokens_map.json; otherwise the eos_token_id
          of config.json or generation_config.json (the first if there are several); otherwise that of the SentencePiece
          model.
        - `start_ids` is what the post-processor of tokenizer.json puts before a text. Without that file it is the
          bos_token if tokenizer_config.json has add_bos_token, or omits it and the model is an OPT or has
          SentencePiece.

        Raises:
            UserError: there is no folder, it has no tokenizer, or a file is damaged or of an unknown kind.
        """
        return cls.of(TokenizerFiles.read(Path(folder)))

    @classmethod
    def of(cls, files: TokenizerFiles) -> Self:
        """The same, from files that were read already."""
        pieces = read_pieces(files)
        size, eos_id = files.model.get("vocab_size"), _special_id(files, pieces, "eos")
        vocab_size = size if type(size) is int and size > 0 else pieces.n_ids
        made = cls(files, vocab_size=vocab_size, eos_id=eos_id, start_ids=_start_ids(files, pieces), pieces=pieces)
        _ = made.spelling  # it is better to refuse now what cannot be shown
        return made

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        rows = super().encode_batch(texts)
        if self.vocabulary.n_ids > self.vocab_size and (
            over := [i for row in rows for i in row if i >= self.vocab_size]
        ):
            raise UserError(f"the text has token {over[0]}, and the model knows only {self.vocab_size}: leave it out")
        return rows

    @cached_property
    def starts(self) -> Collection[int | None]:
        return {*self.start_ids, self.special_id("bos_token")}

    def special_id(self, role: str) -> int | None:
        """The token of a role, such as "pad_token"; None if the files name none."""
        token = self.files.token(role)
        return None if token is None else self.vocabulary.ids.get(token)

    @classmethod
    def check_export(cls, model_type: str) -> None:
        """It always has one, because it came from there."""

    def export(self, folder: str | Path, *, model_type: str) -> None:
        write_files(Path(folder), self.files.contents)


def read_pieces(files: TokenizerFiles) -> JsonPieces | SentencePieces:
    """The vocabulary of a model that is not an encoder-decoder."""
    if any(name in files for name in ("tokenizer.json", "merges.txt", "vocab.txt")):
        return JsonPieces(files)
    name = next(filter(files.contents.__contains__, _SENTENCEPIECE), None)
    if name is None:
        raise UserError(
            f"{files.folder}: no tokenizer of such a model (tokenizer.json, vocab.json with merges.txt, vocab.txt, or "
            "tokenizer.model)"
        )
    if files.model.get("model_type") == "xlm-roberta":  # whose ids are not those of the file
        raise UserError(f"{files.folder}: {name} alone is not read for such a model; {_SAVE_ONCE}")
    pieces = SentencePieces(files.sentencepiece(name))
    pad = files.token("pad_token")  # nobody writes it
    if beyond := [token for token, i in files.added.items() if i >= pieces.n_ids and token != pad]:
        raise UserError(
            f"{files.folder}: {name} does not know the added token {beyond[0]!r} and would spell it out; {_SAVE_ONCE}"
        )
    return pieces


def _special_id(files: TokenizerFiles, pieces: Pieces, role: str) -> int | None:
    token = files.token(f"{role}_token")
    if token is not None and (i := pieces.ids.get(token)) is not None:
        return i
    if (i := files.model_id(f"{role}_token_id")) is not None:
        return i
    if isinstance(pieces, SentencePieces):
        i = int(pieces.model.bos_id() if role == "bos" else pieces.model.eos_id())
        return i if i >= 0 else None
    usual = "</s>" if files.model.get("model_type") == "opt" else "<|endoftext|>"
    return pieces.ids.get(usual) if "merges.txt" in files else None  # older files leave it unsaid


def _start_ids(files: TokenizerFiles, pieces: Pieces) -> tuple[int, ...]:
    if isinstance(pieces, JsonPieces) and ("tokenizer.json" in files or pieces.around[0]):
        return pieces.around[0]
    usual = isinstance(pieces, SentencePieces) or files.model.get("model_type") == "opt"
    bos = _special_id(files, pieces, "bos")
    return (bos,) if bos is not None and files.settings.get("add_bos_token", usual) else ()
