"""The tokenizers of the encoder-decoder families: how a vocabulary is read, and which tokens stand around a sentence.

Each family is a row of `FAMILIES`, named like its class in `transformers`.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.json_pieces import JsonPieces
from transformer_zoo.tokenizers.moses import moses_sides
from transformer_zoo.tokenizers.sentence_pieces import SentencePieces
from transformer_zoo.tokenizers.tokenizer import Pieces, Spelling, check_unicode

_CODES = json.loads(Path(__file__).with_name("languages.json").read_text("utf-8"))
LANGUAGES: dict[str, tuple[str, ...]] = {name: tuple(codes.split()) for name, codes in _CODES.items()}
"""The languages of the multilingual models, which a file may omit, in the order of their tags' ids.

mBART (Liu et al. 2020; mBART-50: Tang et al. 2020), M2M-100 (Fan et al. 2020; WMT21: Tran et al. 2021), NLLB
(Costa-jussà et al. 2022).
"""


@dataclass(frozen=True)
class Vocabulary:
    """Pieces of both sides, and the ids of the languages' tags by their codes.

    `joint`: both sides have the same ids, though each may have its own SentencePiece model.
    """

    source: Pieces
    target: Pieces
    languages: dict[str, int] = field(default_factory=dict)
    joint: bool = True


@dataclass(frozen=True)
class Family:
    """How a family's tokenizer writes a sentence.

    Args:
        source, target: The tokens around the text, which is A: the tags of the languages "source" and "target", bos and
            eos.
        bos: The token that a target follows, if it is not the model's own.
        tag: How a language's tag is written.
    """

    read: Callable[[TokenizerFiles], Vocabulary | Pieces]
    source: str = "A eos"
    target: str = "A eos"
    bos: str = ""
    tag: str = "{}"

    def around(self, side: str) -> tuple[list[str], list[str], str]:
        """The tokens before the text of a side, after it, and at the end, which generation and training append."""
        before, _, after = getattr(self, side).partition("A ")
        *between, end = after.split()
        return before.split(), between, end


class MarianPieces(SentencePieces):
    """Marian's: a language code before a text, such as `>>fra<<`, is one token; `codes` are those of the source."""

    marks = re.compile(r"\A(>>.*?<<)", re.DOTALL)
    codes: Sequence[str] = ()

    def tag_of(self, text: str) -> str:
        match = self.marks.match(text)
        return match[0] if match else ""

    def id_of_mark(self, mark: str) -> int:
        if self.codes and mark not in self.codes:
            raise UserError(unknown_language(mark, self.codes))
        return super().id_of_mark(mark)


class SentinelPieces(SentencePieces):
    """T5's: `<extra_id_0>` and so on are single tokens anywhere in a text, with ids after those of SentencePiece."""

    def __init__(self, files: TokenizerFiles, name: str) -> None:
        super().__init__(files.sentencepiece(name))
        n, size = int(files.settings.get("extra_ids", 100)), self.n_ids
        sentinels = {f"<extra_id_{i}>": size + n - 1 - i for i in range(n)}
        self.ids, self.n_ids = {**self.ids, **sentinels}, size + n
        if sentinels:
            self.marks = re.compile(f"({'|'.join(sentinels)})")


class BytePieces(Pieces):
    """ByT5's: each byte of the UTF-8 is a token, with ids from 3 on; special tokens in a text stand for themselves.

    Blanks around pad, eos and unk belong to these tokens, and bytes that are not UTF-8 give no text.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        first = [files.token(f"{role}_token") or usual for role, usual in _OF_BYT5.items()]
        extra = [f"<extra_id_{i}>" for i in range(int(files.settings.get("extra_ids") or 125))]
        tokens = [*first, *map(chr, range(256)), *extra]
        super().__init__({token: i for i, token in enumerate(tokens)} | files.added)
        self.stand_ins = {0xFFFD: ""}
        self._special = [token for token in self.ids if len(token) > 1]
        own, every = ("|".join(map(re.escape, tokens)) for tokens in (first, self._special))
        after = "|".join(f"(?<={re.escape(token)})" for token in first)
        self._marks = re.compile(rf"(?:\s*(?=(?:{own})))?({every})(?:(?:{after})\s*)?")

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        check_unicode(texts)
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> list[int]:
        parts = self._marks.split(text)  # text, mark, text, ...
        cut = ([self.ids[part]] if n % 2 else [3 + byte for byte in part.encode()] for n, part in enumerate(parts))
        return [i for ids in cut for i in ids]

    @cached_property
    def spelling(self) -> Spelling:
        return {3 + byte: bytes([byte]) for byte in range(256)}, "kept"


_OF_BYT5 = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}


def unknown_language(code: str, codes: Sequence[str]) -> str:
    """The message about a code that does not exist."""
    longer = [known for known in codes if known.lower().startswith(code.lower())]
    near = [*dict.fromkeys([*longer, *get_close_matches(code, codes, n=5, cutoff=0.4), *sorted(codes)])][:5]
    return f"language {code!r} is none of the {len(codes)} of the model; near ones are {', '.join(near)}"


def _marian(files: TokenizerFiles) -> Vocabulary:
    unk = files.token("unk_token") or "<unk>"
    ids = files.vocabulary("vocab.json", unk)
    separate = bool(files.settings.get("separate_vocabs", False))
    target_ids = files.vocabulary("target_vocab.json", unk) if separate else ids
    source, target = (
        MarianPieces(files.sentencepiece(name), ids=of, unk=unk)
        for name, of in (("source.spm", ids), ("target.spm", target_ids))
    )
    source.codes = [token for token in ids if token.startswith(">>") and token.endswith("<<")]
    return Vocabulary(source, target, {code[2:-2]: ids[code] for code in source.codes}, joint=not separate)


def _one(files: TokenizerFiles) -> Pieces:
    is_json = "tokenizer.json" in files or "spiece.model" not in files
    return JsonPieces(files) if is_json else SentinelPieces(files, "spiece.model")


def _pegasus(files: TokenizerFiles) -> Pieces:
    if "tokenizer.json" in files:
        return _one(files)
    model = files.sentencepiece("spiece.model")
    first = ["<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103))]
    tokens = [*first, *(model.id_to_piece(i) for i in range(2, len(model)))]
    return SentencePieces(model, ids={token: i for i, token in enumerate(tokens)})


def _fairseq(name: str, pattern: str) -> Callable[[TokenizerFiles], Vocabulary]:
    """mBART's and NLLB's: fairseq's four special tokens, SentencePiece's from the fourth on, the languages, <mask>."""

    def read(files: TokenizerFiles) -> Vocabulary:
        both: Pieces
        if "tokenizer.json" in files:
            both = json = JsonPieces(files)
            added = [token.content for _, token in json.added]
        else:
            model, added = files.sentencepiece("sentencepiece.bpe.model"), list(files.added)
            tokens = ["<s>", "<pad>", "</s>", "<unk>", *(model.id_to_piece(i) for i in range(3, len(model)))]
            ids = {token: i for i, token in enumerate([*tokens, *LANGUAGES[name], "<mask>"])}
            both = SentencePieces(model, ids=ids | files.added)
        codes = dict.fromkeys([*LANGUAGES[name], *(token for token in added if re.fullmatch(pattern, token))])
        return Vocabulary(both, both, {code: both.ids[code] for code in codes if code in both.ids})

    return read


def _m2m_100(files: TokenizerFiles) -> Vocabulary:
    ids = files.vocabulary("vocab.json", "<unk>")
    name = files.settings.get("language_codes", "m2m100")
    if name not in ("m2m100", "wmt21"):
        raise UserError(f"{files.folder}: language_codes {name!r} of tokenizer_config.json is neither m2m100 nor wmt21")
    languages = {code: len(ids) + i for i, code in enumerate(LANGUAGES[name])}
    both = SentencePieces(files.sentencepiece("sentencepiece.bpe.model"), ids=ids)
    return Vocabulary(both, both, languages)


def _fsmt(files: TokenizerFiles) -> Vocabulary:
    source, target = moses_sides(files)
    return Vocabulary(source, target, joint=source.ids == target.ids)


_FLORES = _fairseq("nllb", r"[a-z]{3}_[A-Z][a-z]{3}")
FAMILIES: dict[str, Family] = {
    "marian": Family(_marian, source="target A eos", tag=">>{}<<"),
    "bart": Family(_one, source="bos A eos", target="bos A eos"),
    "mbart": Family(_fairseq("mbart", "[a-z]{2}_[A-Z]{2}"), source="A eos source", bos="target"),
    "mbart50": Family(_fairseq("mbart50", "[a-z]{2}_[A-Z]{2}"), source="source A eos", target="target A eos"),
    "m2m100": Family(_m2m_100, source="source A eos", target="target A eos", tag="__{}__"),
    "nllb": Family(_FLORES, source="source A eos", target="target A eos"),
    # Its first tokenizer put the language behind the sentence; models trained in that way have `legacy_behaviour`.
    "nllb-legacy": Family(_FLORES, source="A eos source", target="target A eos"),
    **dict.fromkeys(("t5", "mt5", "umt5"), Family(_one)),
    "byt5": Family(BytePieces),
    "pegasus": Family(_pegasus),
    "fsmt": Family(_fsmt),
}


def family_of(files: TokenizerFiles) -> str:
    """The row of `FAMILIES` for these files, by the tokenizer's class, the model's type, and the files. UserError:
    none."""
    by_class = files.tokenizer_class.removesuffix("Tokenizer").lower().replace("roberta", "bart")  # the same
    model_type = str(files.model.get("model_type", ""))
    by_type = model_type.replace("_", "")
    if by_type == "m2m100" and "vocab.json" not in files:
        by_type = "nllb"
    if by_type == "mbart" and "tokenizer.json" in files and "sl_SI" in JsonPieces(files).ids:
        by_type = "mbart50"
    by_file = next((name for file, name in (("source.spm", "marian"), ("spiece.model", "t5")) if file in files), "")
    found = by_class if by_class in FAMILIES else by_type or by_file
    if found == "nllb" and files.settings.get("legacy_behaviour"):
        found = "nllb-legacy"
    if found not in FAMILIES:
        said = f"{files.tokenizer_class or 'no tokenizer_class'}, model_type {model_type or 'not given'}"
        raise UserError(
            f"{files.folder}: the tokenizer of none of the families that translate ({said}); they are "
            f"{', '.join(name for name in FAMILIES if name != 'nllb-legacy')}"
        )
    return found
