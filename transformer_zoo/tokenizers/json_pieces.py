"""The `tokenizers` library: vocabularies that are read with it, and models of it that are made here."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.decoders import Decoder

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.tokenizer import Pieces, Spelling, check_unicode

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizers cut a text before bytes are merged; Llama 3's take up to three digits at a time."""
_FAIRSEQ = ["<s>", "</s>", "<unk>", "<pad>", "<mask>"]
_BERTS = ("", "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
_OF_BERT = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class JsonPieces(Pieces):
    """A vocabulary of the `tokenizers` library: tokenizer.json, which says everything, or one built like it.

    Special tokens in a text stand for themselves, as in the model's own tokenizer.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        """Read tokenizer.json, otherwise BERT's words from vocab.txt, otherwise GPT-2's byte-level BPE (Radford et al.
        2019) from vocab.json and merges.txt.

        Raises:
            UserError: one of them is damaged or missing.
        """
        self.tokenizer = _read(files)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        super().__init__(self.tokenizer.get_vocab(with_added_tokens=True))
        self.added = list(self.tokenizer.get_added_tokens_decoder().items())

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            return [row.ids for row in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        except Exception as error:  # such as an unknown word without a token for the unknown
            check_unicode(texts)
            raise UserError(f"the vocabulary cannot spell the text ({_one_line(error)})") from None

    @property
    def around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids that the post-processor puts before a text, and after it."""
        if not self.tokenizer.num_special_tokens_to_add(is_pair=False):
            return (), ()
        row = self.tokenizer.encode("a")
        text = [i for i, special in enumerate(row.special_tokens_mask) if not special] or [0]
        return tuple(row.ids[: text[0]]), tuple(row.ids[text[-1] + 1 :])

    @cached_property
    def spelling(self) -> Spelling:
        special = {i for i, token in self.added if token.special}
        tokens = {i: token for token, i in self.ids.items() if i not in special}
        if self.tokenizer.decoder is None:
            return {i: token.encode() for i, token in tokens.items()}, "between"
        kind = json.loads(self.tokenizer.decoder.__getstate__())
        if kind["type"] == "WordPiece":
            part = kind["prefix"]
            spelled = {i: t.removeprefix(part) if t.startswith(part) else f" {t}" for i, t in tokens.items()}
            return {i: text.encode() for i, text in spelled.items()}, "first dropped"
        spell = _speller(self.tokenizer.decoder)
        drops = self.tokenizer.decoder.decode(["▁a"]) == "a"
        return {i: spell(token) for i, token in tokens.items()}, "first dropped" if drops else "kept"


def _read(files: TokenizerFiles) -> FastTokenizer:
    if "tokenizer.json" not in files:
        return _read_word_pieces(files) if "vocab.txt" in files else _read_byte_level(files)
    try:
        return FastTokenizer.from_str(files.bytes_of("tokenizer.json").decode())
    except Exception as error:  # the library raises nothing narrower
        path = files.folder / "tokenizer.json"
        raise UserError(f"{path}: damaged, or from a newer version ({_one_line(error)})") from None


def _read_byte_level(files: TokenizerFiles) -> FastTokenizer:
    lines = files.bytes_of("merges.txt").decode("utf-8", "replace").split("\n")
    rules = (line.rstrip("\r").partition(" ") for line in lines if line.strip() and not line.startswith("#version"))
    vocabulary, merges = files.vocabulary("vocab.json"), [(left, right) for left, _, right in rules]
    is_qwen2, blank = files.tokenizer_class == "Qwen2Tokenizer", bool(files.settings.get("add_prefix_space", False))
    try:
        tokenizer = byte_level(vocabulary, merges, pattern=QWEN2 if is_qwen2 else "", add_prefix_space=blank)
    except Exception as error:
        path = files.folder / "merges.txt"
        raise UserError(f"{path}: damaged, or not of this vocab.json ({_one_line(error)})") from None
    if is_qwen2:
        tokenizer.normalizer = normalizers.NFC()
    special = _special_tokens(files)
    for token in sorted(files.added, key=files.added.__getitem__):
        tokenizer.add_tokens([AddedToken(token, special=token in special, normalized=False)])
    tokenizer.add_special_tokens([token for token in special if tokenizer.token_to_id(token) is not None])
    if files.model.get("model_type") == "roberta":
        end, start = ((token, int(tokenizer.token_to_id(token) or 0)) for token in ("</s>", "<s>"))
        tokenizer.post_processor = processors.RobertaProcessing(end, start, add_prefix_space=blank)
    if wrong := [token for token, i in files.added.items() if tokenizer.token_to_id(token) != i]:
        raise UserError(f"{files.folder}: the added token {wrong[0]!r} has an id that does not follow vocab.json")
    return tokenizer


def _read_word_pieces(files: TokenizerFiles) -> FastTokenizer:
    """Words cut into their longest known beginnings (Schuster and Nakajima 2012), from vocab.txt, with a token a line.

    Raises:
        UserError: it is a tokenizer of another kind with such a list, or a special token is not in the list.
    """
    if files.tokenizer_class not in _BERTS:
        raise UserError(f"{files.folder}: {files.tokenizer_class} without a tokenizer.json is not read")
    lines = files.bytes_of("vocab.txt").decode("utf-8", "replace").removesuffix("\n").split("\n")
    ids = {line.rstrip("\r"): i for i, line in enumerate(lines)}
    special = {role: files.token(f"{role}_token") or usual for role, usual in _OF_BERT.items()}
    if missing := [token for token in special.values() if token not in ids]:
        raise UserError(f"{files.folder / 'vocab.txt'} has no {missing[0]}: it is damaged, or of another tokenizer")
    said = files.settings
    made = FastTokenizer(models.WordPiece(ids, unk_token=special["unk"]))
    made.normalizer = normalizers.BertNormalizer(
        lowercase=bool(said.get("do_lower_case", True)),
        strip_accents=said.get("strip_accents"),
        handle_chinese_chars=bool(said.get("tokenize_chinese_chars", True)),
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens([AddedToken(token, special=True) for token in special.values()])
    around = [(special[role], ids[special[role]]) for role in ("sep", "cls")]
    made.post_processor = processors.BertProcessing(*around)
    return made


def _special_tokens(files: TokenizerFiles) -> list[str]:
    usual = {"opt": ["</s>", "<pad>"], **dict.fromkeys(("bart", "roberta"), _FAIRSEQ)}
    named = list(dict.fromkeys(files.named_tokens.values()))
    return named or usual.get(files.model.get("model_type", ""), ["<|endoftext|>"])


def _speller(decoder: Decoder) -> Callable[[str], bytes]:
    """How a decoder changes a token within a text. UserError: the change depends on more than the token."""
    fields = json.loads(decoder.__getstate__())
    steps = fields.get("decoders", [fields])
    if unread := [step["type"] for step in steps if not _is_of_tokens(step)]:
        raise UserError(
            f"tokenizer.json: its decoder ({unread[0]}) does not give each token its own bytes; "
            "only byte-level, SentencePiece-like ones and their parts are read"
        )

    names = {step["type"] for step in steps}

    def spell(token: str) -> bytes:
        if "ByteLevel" in names:
            return bytes_of(token)
        if "ByteFallback" in names and (found := _BYTE.fullmatch(token)):
            return bytes([int(found[1], 16)])
        return decoder.decode(["a", token])[1:].encode("utf-8", "replace")

    return spell


def _is_of_tokens(step: dict[str, Any]) -> bool:
    """Whether a step changes a token independently of others, except that it is the first."""
    match step:
        case {"type": "ByteLevel" | "Metaspace" | "ByteFallback" | "Fuse"}:
            return True
        case {"type": "Replace", "pattern": {"String": _}} | {"type": "Strip", "content": " ", "start": 1, "stop": 0}:
            return True
    return False


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def byte_level(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    pattern: str | None = None,
    add_prefix_space: bool = False,
    **options: Any,
) -> FastTokenizer:
    """A BPE of bytes, written in `ALPHABET`, for the parts into which a pattern cuts a text; "" is GPT-2's pattern.

    `options` are those of the library's BPE. The library raises its own errors if the merges do not fit.
    """
    fast = FastTokenizer(models.BPE(vocab=dict(vocabulary), merges=list(merges), **options))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=pattern == "")
    if pattern:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        fast.pre_tokenizer = pre_tokenizers.Sequence([split, fast.pre_tokenizer])
    fast.decoder = decoders.ByteLevel()
    return fast


def piece_level(model: models.Model, *, blank_first: bool = False) -> FastTokenizer:
    """A model of SentencePiece's pieces, in which ▁ is a blank, and bytes spell text without pieces."""
    first, strip = ([normalizers.Prepend("▁")], [decoders.Strip(" ", 1, 0)]) if blank_first else ([], [])
    fast = FastTokenizer(model)
    fast.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
    fast.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return fast


def piece_bpe(pieces: Sequence[str], ranks: Mapping[str, float], unk: str) -> models.BPE:
    """SentencePiece's BPE: among all neighbours that form a piece, those with the lowest rank are joined first."""
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return models.BPE(vocab=vocabulary, merges=all_merges(ranks), unk_token=unk, fuse_unk=True, byte_fallback=True)


def all_merges(ranks: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every way to make a piece from two others, the piece of the lowest rank first."""
    found = [
        (rank, ranks[piece[:cut]], ranks[piece[cut:]], piece[:cut], piece[cut:])
        for piece, rank in ranks.items()
        for cut in range(1, len(piece))
        if piece[:cut] in ranks and piece[cut:] in ranks
    ]
    return [(left, right) for *_, left, right in sorted(found)]


def _alphabet() -> str:
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(256))
    return "".join(chr(byte) if byte in shown else chr(256 + next(hidden)) for byte in range(256))


ALPHABET = _alphabet()
"""GPT-2's character for each byte: the byte itself if it is visible, otherwise one from 256 on."""

_BYTES = {character: byte for byte, character in enumerate(ALPHABET)}


def in_alphabet(piece: bytes) -> str:
    """Bytes in GPT-2's characters."""
    return piece.decode("latin-1").translate(ALPHABET)


def bytes_of(token: str) -> bytes:
    """Bytes of a token in GPT-2's characters; a token with other characters is text itself."""
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:
        return token.encode()
