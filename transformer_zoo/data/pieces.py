"""Vocabularies of downloaded models: the `tokenizers` library's, and SentencePiece's with ids of their own."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import sentencepiece as spm
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from transformer_zoo.data.tokenizer_files import TokenizerFiles
from transformer_zoo.data.tokenizers import _not_unicode
from transformer_zoo.errors import UserError

_BLANK = "▁"
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")

# Between the bytes of tokens: nothing; nothing, and the text's first blank is left out; a blank.
Blanks = Literal["kept", "first dropped", "between"]


class Pieces(Protocol):
    """Text to ids, without the special tokens around it, and back."""

    n_ids: int

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text. UserError for a text that is not Unicode."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, none of which is special."""
        ...

    def id_of(self, token: str) -> int | None:
        """Id of a token; None if there is no such token."""
        ...


class JsonPieces:
    """A vocabulary of the `tokenizers` library: tokenizer.json, which says all of it, or what is built like one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer, self._ids = tokenizer, tokenizer.get_vocab(with_added_tokens=True)
        self.n_ids = max(self._ids.values(), default=-1) + 1

    @classmethod
    def load(cls, files: TokenizerFiles) -> "JsonPieces":
        """From tokenizer.json. UserError if it is damaged."""
        path = files.folder / "tokenizer.json"
        try:
            return cls(Tokenizer.from_str(files.bytes_of("tokenizer.json").decode()))
        except UserError:
            raise
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{path}: damaged, or from a newer version ({_one_line(error)})") from None

    @classmethod
    def byte_level(cls, files: TokenizerFiles) -> "JsonPieces":
        """GPT-2's byte-level BPE (Radford et al. 2019) from vocab.json and merges.txt."""
        vocabulary = files.vocabulary("vocab.json")
        lines = files.bytes_of("merges.txt").decode("utf-8", "replace").split("\n")
        rules = (line.rstrip("\r").partition(" ") for line in lines if line.strip() and not line.startswith("#version"))
        merges = [(left, right) for left, _, right in rules]
        try:
            tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        except Exception as error:
            path = files.folder / "merges.txt"
            raise UserError(f"{path}: damaged, or not of this vocab.json ({_one_line(error)})") from None
        blank = bool(files.settings.get("add_prefix_space", False))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=blank)
        if files.tokenizer_class == "Qwen2Tokenizer":
            tokenizer.normalizer = normalizers.NFC()
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(_QWEN2), "isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=blank, use_regex=False),
                ]
            )
        tokenizer.decoder = decoders.ByteLevel()
        special = _special_tokens(files)
        for token in sorted(files.added, key=files.added.__getitem__):
            tokenizer.add_tokens([AddedToken(token, special=token in special, normalized=False)])
        tokenizer.add_special_tokens([token for token in special if tokenizer.token_to_id(token) is not None])
        if wrong := [token for token, i in files.added.items() if tokenizer.token_to_id(token) != i]:
            raise UserError(f"{files.folder}: the added token {wrong[0]!r} has an id that does not follow vocab.json")
        return cls(tokenizer)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text; special tokens in it become themselves, as they do for the model's own tokenizer."""
        try:
            return [row.ids for row in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        except TypeError:
            raise UserError(_not_unicode(texts)) from None
        except Exception as error:  # such as an unknown word without a token for the unknown
            raise UserError(f"the vocabulary cannot spell the text ({_one_line(error)})") from None

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def id_of(self, token: str) -> int | None:
        """Id of a token."""
        return self._ids.get(token)

    @property
    def added_tokens(self) -> list[str]:
        """Tokens beside the vocabulary, or special ones of it."""
        return [token.content for token in self.tokenizer.get_added_tokens_decoder().values()]

    @property
    def start_ids(self) -> tuple[int, ...]:
        """What the post-processor puts before a text."""
        if not self.tokenizer.num_special_tokens_to_add(is_pair=False):
            return ()
        row = self.tokenizer.encode("a")
        n = next((i for i, special in enumerate(row.special_tokens_mask) if not special), 0)
        return tuple(row.ids[:n])

    def spelling(self) -> tuple[dict[int, bytes], Blanks]:
        """Bytes of each id that stands for text, and what becomes of the blanks around it.

        Raises:
            UserError: the decoder is none that gives each token its own bytes.
        """
        steps: list[Any] = []
        if (decoder := self.tokenizer.decoder) is not None:
            fields = json.loads(decoder.__getstate__())
            steps = fields["decoders"] if fields["type"] == "Sequence" else [fields]
        spell, blanks = _speller(steps)
        special = {i for i, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        return {i: spell(token) for token, i in self._ids.items() if i not in special}, blanks


def _special_tokens(files: TokenizerFiles) -> list[str]:
    """Those that the files name, else those that the model's family has."""
    roles = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    named = [token for role in roles if (token := files.token(f"{role}_token"))]
    usual = {"opt": ["</s>", "<pad>"], "bart": ["<s>", "</s>", "<unk>", "<pad>", "<mask>"]}
    return list(dict.fromkeys(named)) or usual.get(files.model.get("model_type", ""), ["<|endoftext|>"])


def _speller(steps: Sequence[Any]) -> tuple[Callable[[str], bytes], Blanks]:
    """What the steps of a decoder do to one token, and to the blanks around it."""
    replaced: list[tuple[str, str]] = []
    is_byte_level = has_bytes = False
    blanks: Blanks = "kept" if steps else "between"
    for step in steps:
        match step:
            case {"type": "ByteLevel"}:
                is_byte_level = True
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
                replaced.append((old, new))
            case {"type": "ByteFallback"}:
                has_bytes = True
            case {"type": "Fuse"}:
                pass
            case {"type": "Strip", "content": " ", "start": 1, "stop": 0}:
                blanks = "first dropped"
            case {"type": "Metaspace", "replacement": str(blank)}:
                replaced.append((blank, " "))
                blanks = "kept" if step.get("prepend_scheme") == "never" else "first dropped"
            case _:
                raise UserError(
                    f"tokenizer.json: its decoder ({step['type']}) does not give each token its own bytes; "
                    "only byte-level, SentencePiece-like ones and their parts are read"
                )

    def spell(token: str) -> bytes:
        if is_byte_level:
            return byte_level_bytes(token)
        if has_bytes and (found := _BYTE.fullmatch(token)):
            return bytes([int(found[1], 16)])
        for old, new in replaced:
            token = token.replace(old, new)
        return token.encode("utf-8", "replace")

    return spell, blanks


def _byte_alphabet() -> list[str]:
    """GPT-2's character for each byte: itself where it can be seen, else one from 256 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(256))
    return [chr(byte) if byte in shown else chr(256 + next(hidden)) for byte in range(256)]


BYTE_ALPHABET = _byte_alphabet()
_BYTES = {character: byte for byte, character in enumerate(BYTE_ALPHABET)}


def byte_level_bytes(token: str) -> bytes:
    """Bytes of a token in GPT-2's alphabet; one with other characters is text as it stands."""
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:
        return token.encode()


class SentencePieces:
    """A SentencePiece model, by its own ids or by those of another list.

    Args:
        model: The model, serialized.
        path: Where it was, for messages.
        ids: Piece to id, which may have pieces that SentencePiece does not; None: SentencePiece's own ids.
        unk: The piece for what the list does not have.
    """

    def __init__(self, model: bytes, path: Path, *, ids: Mapping[str, int] | None = None, unk: str = "<unk>") -> None:
        self.model, self._is_own = read_sentencepiece(model, path), ids is None
        self._ids = {self.model.id_to_piece(i): i for i in range(len(self.model))} if ids is None else ids
        if ids is not None and unk not in ids:
            raise UserError(f"{path}: the vocabulary beside it has no {unk}; fetch it again")
        self._unk_id = self._ids.get(unk, -1)
        self._tokens = {i: token for token, i in self._ids.items()}
        self.n_ids = max(self._tokens) + 1

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        try:
            if self._is_own:
                return self.model.encode(list(texts), num_threads=-1)  # type: ignore[no-any-return]
            rows = self.model.encode(list(texts), out_type=str, num_threads=-1)
        except (RuntimeError, TypeError):
            raise UserError(_not_unicode(texts)) from None
        known, unk = self._ids.get, self._unk_id
        return [[known(piece, unk) for piece in row] for row in rows]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; a number without a piece gives nothing."""
        pieces = [self._tokens[i] for i in ids if i in self._tokens]
        return str(self.model.decode_pieces(pieces)).replace(_BLANK, " ").strip()

    def id_of(self, token: str) -> int | None:
        """Id of a piece."""
        return self._ids.get(token)

    def spelling(self) -> tuple[dict[int, bytes], Blanks]:
        """Bytes of each id that stands for text, and what becomes of the blanks around it."""
        model, spelled = self.model, {}
        for i in range(model.get_piece_size()):
            piece = model.id_to_piece(i)
            if model.is_byte(i):
                spelled[i] = bytes([int(piece[3:5], 16)])
            elif not (model.is_control(i) or model.is_unknown(i) or model.is_unused(i)):
                spelled[i] = piece.replace(_BLANK, " ").encode()
        return spelled, "first dropped" if str(model.normalize("a")).startswith(_BLANK) else "kept"


def read_sentencepiece(model: bytes, path: Path) -> spm.SentencePieceProcessor:
    """A serialized SentencePiece model, with whatever special ids. UserError if it is none."""
    try:
        pieces = spm.SentencePieceProcessor(model_proto=model)
        if pieces.get_piece_size():  # an empty file is read without complaint
            return pieces
    except RuntimeError:
        pass
    raise UserError(f"{path}: not a SentencePiece model; fetch it again")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
