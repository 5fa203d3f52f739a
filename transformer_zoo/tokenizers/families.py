"""The tokenizers of the encoder-decoder families: where a sentence's special tokens stand, how the vocabulary is read.

Each family is a row of `FAMILIES`; the final token of source and target is not part of it, since generation and
training append it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.json_pieces import JsonPieces
from transformer_zoo.tokenizers.languages import LANGUAGES
from transformer_zoo.tokenizers.vocabularies import Pieces, SentencePieces, read_sentencepiece

Mark = Literal["source", "target", "bos", "eos"]  # a language's tag, or a special token


@dataclass(frozen=True)
class Vocabulary:
    """Pieces of both sides, and the ids of the languages' tags by their codes.

    `joint`: both sides have the same ids, though they may have a SentencePiece model each.
    """

    source: Pieces
    target: Pieces
    languages: dict[str, int] = field(default_factory=dict)
    joint: bool = True


@dataclass(frozen=True)
class Family:
    """Where the marks stand: before and after the source's tokens, before the target's; and what the model is told.

    `source_end` is the last token of a source instead of eos, `bos` the first of a target instead of the model's own.
    """

    read: Callable[[TokenizerFiles], Vocabulary]
    source_before: tuple[Mark, ...] = ()
    source_after: tuple[Mark, ...] = ()
    target_before: tuple[Mark, ...] = ()
    source_end: Mark | None = None
    bos: Mark | None = None
    tag: str = "{}"

    @property
    def source_marks(self) -> set[Mark]:
        """All that a source needs."""
        return {*self.source_before, *self.source_after, *([self.source_end] if self.source_end else [])}

    @property
    def target_marks(self) -> set[Mark]:
        """All that a target needs."""
        return {*self.target_before, *([self.bos] if self.bos else [])}


class MarianPieces(SentencePieces):
    """Marian's: a language code before a text, such as `>>fra<<`, is one token; `codes` are those that there are."""

    codes: Sequence[str] = ()

    def code_of(self, text: str) -> str:
        """The language code that a text begins with, or ""."""
        match = re.match(r">>.*?<<", text, re.DOTALL)
        return match[0] if match else ""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text. UserError for a code that is none of the vocabulary's."""
        codes = [self.code_of(text) for text in texts]
        rows = super().encode_batch([text.removeprefix(code) for text, code in zip(texts, codes, strict=True)])
        for row, code in zip(rows, codes, strict=True):
            if code:
                if self.codes and code not in self.codes:
                    raise UserError(unknown_language(code, self.codes))
                row.insert(0, self.ids.get(code, self._unk_id))
        return rows


class SentinelPieces(SentencePieces):
    """T5's: `<extra_id_0>` and so on are single tokens wherever they stand, with ids after those of SentencePiece."""

    def __init__(self, files: TokenizerFiles, name: str) -> None:
        super().__init__(files.bytes_of(name), files.folder / name)
        n, size = int(files.settings.get("extra_ids", 100)), len(self.model)
        sentinels = {f"<extra_id_{i}>": size + n - 1 - i for i in range(n)}
        self.ids = {**self.ids, **sentinels}
        self.sentinels, self.n_ids = sentinels, size + n

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        if not any("<extra_id_" in text for text in texts):
            return super().encode_batch(texts)
        return [self._with_sentinels(text) for text in texts]

    def _with_sentinels(self, text: str) -> list[int]:
        row: list[int] = []
        for part in re.split(r"(<extra_id_\d+>)", text):
            row += [self.sentinels[part]] if part in self.sentinels else super().encode_batch([part])[0]
        return row


def unknown_language(code: str, codes: Sequence[str]) -> str:
    """What to say of a code that is none of the codes."""
    longer = [known for known in codes if known.lower().startswith(code.lower())]
    near = [*dict.fromkeys([*longer, *get_close_matches(code, codes, n=5, cutoff=0.4), *sorted(codes)])][:5]
    return f"language {code!r} is none of the {len(codes)} of the model; near ones are {', '.join(near)}"


def _marian(files: TokenizerFiles) -> Vocabulary:
    ids = files.vocabulary("vocab.json")
    unk = files.token("unk_token") or "<unk>"
    separate = bool(files.settings.get("separate_vocabs", False))
    target_ids = files.vocabulary("target_vocab.json") if separate else ids
    source, target = (
        MarianPieces(files.bytes_of(name), files.folder / name, ids=of, unk=unk)
        for name, of in (("source.spm", ids), ("target.spm", target_ids))
    )
    codes = [token for token in ids if token.startswith(">>") and token.endswith("<<")]
    source.codes = codes
    return Vocabulary(source, target, {code[2:-2]: ids[code] for code in codes}, joint=not separate)


def _one(files: TokenizerFiles) -> Vocabulary:
    is_json = "tokenizer.json" in files or "spiece.model" not in files
    pieces = JsonPieces.load(files) if is_json else SentinelPieces(files, "spiece.model")
    return Vocabulary(pieces, pieces)


def _fairseq(name: str, pattern: str) -> Callable[[TokenizerFiles], Vocabulary]:
    """mBART's and NLLB's: fairseq's four special tokens, SentencePiece's from the fourth on, the languages, <mask>."""

    def read(files: TokenizerFiles) -> Vocabulary:
        if "tokenizer.json" in files:
            pieces = JsonPieces.load(files)
            others = [token for token in pieces.added_tokens if re.fullmatch(pattern, token)]
            found = {code: pieces.ids.get(code) for code in dict.fromkeys([*LANGUAGES[name], *others])}
            return Vocabulary(pieces, pieces, {code: i for code, i in found.items() if i is not None})
        path = files.folder / "sentencepiece.bpe.model"
        content = files.bytes_of(path.name)
        model = read_sentencepiece(content, path)
        tokens = ["<s>", "<pad>", "</s>", "<unk>", *(model.id_to_piece(i) for i in range(3, len(model)))]
        ids = {token: i for i, token in enumerate([*tokens, *LANGUAGES[name], "<mask>"])} | files.added
        codes = [*LANGUAGES[name], *(token for token in files.added if re.fullmatch(pattern, token))]
        both = SentencePieces(content, path, ids=ids)
        return Vocabulary(both, both, {code: ids[code] for code in codes})

    return read


def _m2m_100(files: TokenizerFiles) -> Vocabulary:
    path, ids = files.folder / "sentencepiece.bpe.model", files.vocabulary("vocab.json")
    name = files.settings.get("language_codes", "m2m100")
    if name not in ("m2m100", "wmt21"):
        raise UserError(f"{files.folder}: language_codes {name!r} of tokenizer_config.json is neither m2m100 nor wmt21")
    languages = {code: len(ids) + i for i, code in enumerate(LANGUAGES[name])}
    both = SentencePieces(files.bytes_of(path.name), path, ids=ids)
    return Vocabulary(both, both, languages)


_FLORES = _fairseq("nllb", r"[a-z]{3}_[A-Z][a-z]{3}")
FAMILIES: dict[str, Family] = {
    "marian": Family(_marian, source_before=("target",), tag=">>{}<<"),
    "bart": Family(_one, source_before=("bos",), target_before=("bos",)),
    "mbart": Family(_fairseq("mbart", "[a-z]{2}_[A-Z]{2}"), source_after=("eos",), source_end="source", bos="target"),
    "mbart50": Family(_fairseq("mbart50", "[a-z]{2}_[A-Z]{2}"), source_before=("source",), target_before=("target",)),
    "m2m_100": Family(_m2m_100, source_before=("source",), target_before=("target",), tag="__{}__"),
    "nllb": Family(_FLORES, source_before=("source",), target_before=("target",)),
    # Its first tokenizer had the language behind the sentence; models that were trained so say `legacy_behaviour`.
    "nllb-legacy": Family(_FLORES, source_after=("eos",), source_end="source", target_before=("target",)),
    "t5": Family(_one),
}
_CLASSES = {
    "MarianTokenizer": "marian",
    "BartTokenizer": "bart",
    "RobertaTokenizer": "bart",  # the same
    "MBartTokenizer": "mbart",
    "MBart50Tokenizer": "mbart50",
    "M2M100Tokenizer": "m2m_100",
    "NllbTokenizer": "nllb",
    "T5Tokenizer": "t5",
}


def family_of(files: TokenizerFiles) -> str:
    """Which row of `FAMILIES`: by the class of the tokenizer, by the type of the model, by the files.

    Raises:
        UserError: none of them.
    """
    type_ = str(files.model.get("model_type", ""))
    if type_ == "m2m_100" and "vocab.json" not in files:
        type_ = "nllb"
    if type_ == "mbart" and "tokenizer.json" in files and "sl_SI" in JsonPieces.load(files).ids:
        type_ = "mbart50"
    by_file = next((name for file, name in (("source.spm", "marian"), ("spiece.model", "t5")) if file in files), "")
    found = _CLASSES.get(files.tokenizer_class) or type_ or by_file
    if found == "nllb" and files.settings.get("legacy_behaviour"):
        found = "nllb-legacy"
    if found not in FAMILIES:
        said = f"{files.tokenizer_class or 'no tokenizer_class'}, model_type {type_ or 'not given'}"
        raise UserError(
            f"{files.folder}: the tokenizer of none of the families that translate ({said}); they are "
            f"{', '.join(name for name in FAMILIES if name != 'nllb-legacy')}"
        )
    return found
