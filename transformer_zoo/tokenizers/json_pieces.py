"""Vocabularies of the `tokenizers` library: tokenizer.json, or what is built like one."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.tokenizer import not_unicode
from transformer_zoo.tokenizers.vocabularies import Blanks, Pieces

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class JsonPieces(Pieces):
    """A vocabulary of the `tokenizers` library: tokenizer.json, which says all of it, or what is built like one.

    Special tokens in a text become themselves, as they do for the model's own tokenizer.
    """

    def __init__(self, tokenizer: FastTokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        super().__init__(tokenizer.get_vocab(with_added_tokens=True))
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, files: TokenizerFiles) -> "JsonPieces":
        """From tokenizer.json, else GPT-2's byte-level BPE (Radford et al. 2019) from vocab.json and merges.txt.

        Raises:
            UserError: one of them is damaged, or not there.
        """
        if "tokenizer.json" not in files:
            return cls(_byte_level(files))
        try:
            return cls(FastTokenizer.from_str(files.bytes_of("tokenizer.json").decode()))
        except Exception as error:  # the library raises nothing narrower
            path = files.folder / "tokenizer.json"
            raise UserError(f"{path}: damaged, or from a newer version ({_one_line(error)})") from None

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            return [row.ids for row in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        except TypeError:
            raise UserError(not_unicode(texts)) from None
        except Exception as error:  # such as an unknown word without a token for the unknown
            raise UserError(f"the vocabulary cannot spell the text ({_one_line(error)})") from None

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

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
        steps: list[Any] = []
        if (decoder := self.tokenizer.decoder) is not None:
            fields = json.loads(decoder.__getstate__())
            steps = fields["decoders"] if fields["type"] == "Sequence" else [fields]
        spell, blanks = _speller(steps)
        special = {i for i, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        return {i: spell(token) for token, i in self.ids.items() if i not in special}, blanks


def _byte_level(files: TokenizerFiles) -> FastTokenizer:
    """From vocab.json and merges.txt, with the tokens that are added."""
    lines = files.bytes_of("merges.txt").decode("utf-8", "replace").split("\n")
    rules = (line.rstrip("\r").partition(" ") for line in lines if line.strip() and not line.startswith("#version"))
    vocabulary, merges = files.vocabulary("vocab.json"), [(left, right) for left, _, right in rules]
    try:
        tokenizer = FastTokenizer(models.BPE(vocab=vocabulary, merges=merges))
    except Exception as error:
        path = files.folder / "merges.txt"
        raise UserError(f"{path}: damaged, or not of this vocab.json ({_one_line(error)})") from None
    blank = bool(files.settings.get("add_prefix_space", False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=blank)
    if files.tokenizer_class == "Qwen2Tokenizer":
        tokenizer.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(_QWEN2), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=blank, use_regex=False)]
        )
    tokenizer.decoder = decoders.ByteLevel()
    special = _special_tokens(files)
    for token in sorted(files.added, key=files.added.__getitem__):
        tokenizer.add_tokens([AddedToken(token, special=token in special, normalized=False)])
    tokenizer.add_special_tokens([token for token in special if tokenizer.token_to_id(token) is not None])
    if wrong := [token for token, i in files.added.items() if tokenizer.token_to_id(token) != i]:
        raise UserError(f"{files.folder}: the added token {wrong[0]!r} has an id that does not follow vocab.json")
    return tokenizer


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
            return _byte_level_bytes(token)
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


def _byte_level_bytes(token: str) -> bytes:
    """Bytes of a token in GPT-2's alphabet; one with other characters is text as it stands."""
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:
        return token.encode()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
