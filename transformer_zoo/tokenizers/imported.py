"""Tokenizers of downloaded encoder-decoders: Marian, BART, mBART, M2M-100, NLLB, T5, with their languages."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from transformer_zoo.characters import is_blank
from transformer_zoo.errors import UserError
from transformer_zoo.files import write_json
from transformer_zoo.tokenizers.families import (
    FAMILIES,
    Mark,
    Vocabulary,
    family_of,
    unknown_language,
)
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.kinds.huggingface import HuggingFaceTokenizer
from transformer_zoo.tokenizers.translation import TranslationTokenizer
from transformer_zoo.tokenizers.vocabularies import Pieces


class ImportedSide(HuggingFaceTokenizer):
    """The tokenizer of one side: ids with the tags that the model expects, but for a sentence's last token.

    Args:
        files: What it is made of.
        pieces: Its vocabulary.
        vocab_size: Ids of the model, of which the tokenizer may leave some unused.
        eos_id: What ends a sentence.
        before, after: Ids around those of a text.
        tags: Ids of the languages by their codes.
        refusal: Why nothing can be encoded yet.
    """

    def __init__(
        self,
        files: TokenizerFiles,
        pieces: Pieces,
        *,
        vocab_size: int,
        eos_id: int,
        before: Sequence[int],
        after: Sequence[int],
        tags: Mapping[str, int],
        refusal: str | None,
    ) -> None:
        super().__init__(files, vocab_size=vocab_size, eos_id=eos_id, pieces=pieces)
        self.before, self._after, self._refusal = list(before), list(after), refusal
        usual = {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "eos": "</s>"}
        roles = (*usual, "sep", "cls", "mask")
        named = {role: files.token(f"{role}_token") or usual.get(role, "") for role in roles}
        unwritten = (pieces.ids.get(named[role]) for role in ("pad", "unk", "bos"))
        self.special_ids = frozenset(i for i in unwritten if i is not None).difference(before)
        hidden = {pieces.ids.get(token) for token in (*named.values(), *usual.values())}
        self._tags, self._hidden = tags, {*hidden, *tags.values(), *pieces.sentinels.values()}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many lines: tags and tokens, without the token that ends a sentence.

        Raises:
            UserError: no language is chosen; a text that is not Unicode, or has a token that the model does not know.
        """
        if self._refusal is not None and not all(self.tag_of(text) or is_blank(text) for text in texts):
            raise UserError(self._refusal)
        return [
            [*([] if self.tag_of(text) else self.before), *row, *self._after]
            for text, row in zip(texts, super().encode_batch(texts), strict=True)
        ]

    def tag_of(self, text: str) -> str:
        """The code that a line for a Marian may bring along, which then counts, whatever is chosen; "" for none."""
        return self.vocabulary.code_of(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens and tags give nothing."""
        return self.vocabulary.decode([i for i in ids if i not in self._hidden])

    @cached_property
    def pieces(self) -> list[str]:
        """The tokens as the files have them, and the languages, which the files may leave unsaid."""
        languages = {i: code for code, i in self._tags.items()}
        return [piece or languages.get(i, "") for i, piece in enumerate(super().pieces)]


class ImportedTranslationTokenizer(TranslationTokenizer):
    """The tokenizers of both sides of a model that came with them; `import_translation_tokenizer` makes it.

    Args:
        files: What it is made of.
        family: A row of `FAMILIES`.
        vocab_sizes: Ids of the model, source and target; None: as many as the tokenizer has.
        languages: Codes of the source's and of the target's language, where the model has several.
        vocabulary: What `files` hold, if it has been read already.
    """

    kind, has_spare_rows = "imported translation", True

    def __init__(
        self,
        files: TokenizerFiles,
        family: str,
        *,
        vocab_sizes: Sequence[int | None] = (None, None),
        languages: Sequence[str | None] = (None, None),
        vocabulary: Vocabulary | None = None,
    ) -> None:
        row = FAMILIES[family]
        vocabulary = vocabulary or row.read(files)
        if "source" in row.source_marks and not vocabulary.languages:
            raise UserError(
                f"{files.folder}: the tokenizer has no languages, but a model of its kind is told them by tags"
            )
        self.files, self.family, self._row, self._vocabulary = files, family, row, vocabulary
        self.languages, self.joint = tuple(vocabulary.languages), vocabulary.joint
        self.takes_source = "source" in row.source_marks
        self.source_language, self.target_language = (self._code(code) for code in languages)
        size = vocab_sizes[0] or vocabulary.source.n_ids
        self._vocab_sizes = size, size if self.joint else vocab_sizes[1] or vocabulary.target.n_ids
        marks = self._marks()
        self.text_bos_id = marks.get("bos")
        self.bos_id = marks.get(row.bos) if row.bos else None
        self.source_end_id = marks.get(row.source_end) if row.source_end else None
        source = self._side(0, marks, row.source_before, row.source_after, row.source_marks)
        target = self._side(1, marks, row.target_before, (), row.target_marks)
        self.first_id = next(iter(target.before), None)
        super().__init__(source, target)

    @property
    def language_of_target(self) -> str | None:
        # A Marian of two languages has no tags, but says what it was made for.
        said = self.target_language or self.files.settings.get("target_lang")
        return said if isinstance(said, str) else None

    def _marks(self) -> dict[Mark, int]:
        """Ids of what may stand around a text."""
        ids, languages = self._vocabulary.source.ids, self._vocabulary.languages
        chosen = {"source": self.source_language, "target": self.target_language}
        marks: dict[Mark, int] = {side: languages[code] for side, code in chosen.items() if code is not None}  # type: ignore[misc]
        tokens: dict[Mark, str] = {
            "bos": self.files.token("cls_token") or self.files.token("bos_token") or "<s>",
            "eos": self.files.token("eos_token") or "</s>",
        }
        for mark, token in tokens.items():
            if token in ids:
                marks[mark] = ids[token]
            elif mark == "eos" or mark in self._row.source_marks:
                raise UserError(f"{self.files.folder}: the tokenizer's vocabulary has no {token}; fetch it again")
        return marks

    def _side(
        self, number: int, marks: dict[Mark, int], before: Sequence[Mark], after: Sequence[Mark], needed: set[Mark]
    ) -> ImportedSide:
        return ImportedSide(
            self.files,
            (self._vocabulary.source, self._vocabulary.target)[number],
            vocab_size=self._vocab_sizes[number],
            eos_id=marks["eos"],
            before=[marks[mark] for mark in before if mark in marks],
            after=[marks[mark] for mark in after if mark in marks],
            tags=self._vocabulary.languages,
            refusal=self._refusal(needed),
        )

    def _refusal(self, needed: set[Mark]) -> str | None:
        """What to say when a language that is needed has not been chosen."""
        chosen = {"source": self.source_language, "target": self.target_language}
        missing = [side for side in ("source", "target") if side in needed and chosen[side] is None]
        if not missing or len(self.languages) < 2:
            return None
        tag = self._row.tag.format(self.languages[0])
        other = f", or begin each line with {tag}" if tag.startswith(">>") else ""
        return (
            f"the model has {len(self.languages)} languages ({', '.join(self.languages[:4])}, ...), and no "
            f"{missing[0]} language is chosen: choose one{other}"
        )

    def _code(self, code: str | None) -> str | None:
        """A language as the tokenizer calls it; its tag is as good."""
        if code is None or code in self._vocabulary.languages:
            return code
        start, end = self._row.tag.split("{}")
        bare = code.removeprefix(start).removesuffix(end)
        if bare in self._vocabulary.languages:
            return bare
        raise UserError(unknown_language(code, self.languages))

    def with_languages(self, source: str | None = None, target: str | None = None) -> "ImportedTranslationTokenizer":
        if not self.languages:
            super().with_languages()
        if source is not None and not self.takes_source:
            raise UserError(f"source language {source!r}: this model is told the target language only; leave it out")
        languages = source or self.source_language, target or self.target_language
        return ImportedTranslationTokenizer(
            self.files,
            self.family,
            vocab_sizes=self._vocab_sizes,
            languages=languages,
            vocabulary=self._vocabulary,
        )

    def content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Family, sizes, the languages that are chosen, and the files as they were."""
        about = {"family": self.family, "model_type": self.files.model.get("model_type")}
        languages = [self.source_language, self.target_language]
        return {**about, "vocab_sizes": list(self._vocab_sizes), "languages": languages}, self.files.contents

    @classmethod
    def from_content(cls, fields: dict[str, Any], files: dict[str, bytes]) -> Self:
        """What `content` was taken from."""
        found = TokenizerFiles(Path("tokenizer"), files, {"model_type": fields["model_type"]})
        return cls(found, fields["family"], vocab_sizes=fields["vocab_sizes"], languages=fields["languages"])

    def export(self, folder: str | Path, *, model_type: str) -> None:
        """Write the files as they came, but for the languages that are chosen now."""
        folder, name = Path(folder), "tokenizer_config.json"
        self.files.save(folder)
        languages = {"src_lang": self.source_language, "tgt_lang": self.target_language} if self.takes_source else {}
        chosen = {field: code for field, code in languages.items() if code is not None}
        settings = self.files.json(name)
        if settings | chosen != settings:
            write_json(folder / name, settings | chosen)


def import_translation_tokenizer(folder: str | Path) -> ImportedTranslationTokenizer:
    """The tokenizer of the encoder-decoder in `folder`, as it was downloaded.

    The vocabulary sizes are those of config.json, where there is one: the model may have rows that no token uses. Of a
    multilingual model the languages are those that its files choose, if they do; see `with_languages`.

    Raises:
        UserError: no folder, no tokenizer in it, one of another family, or a damaged file.
    """
    files = TokenizerFiles.read(Path(folder))
    sizes = (files.model_id("vocab_size"), files.model_id("decoder_vocab_size") or files.model_id("vocab_size"))
    read = ImportedTranslationTokenizer(files, family_of(files), vocab_sizes=sizes)
    if not read.languages:
        return read
    # What the tokenizer's settings name, or the target tag that the model's configuration forces.
    source, target = files.settings.get("src_lang"), files.settings.get("tgt_lang")
    codes = {i: code for code, i in read._vocabulary.languages.items()}
    for name in ("forced_bos_token_id", "decoder_start_token_id"):
        target = target or codes.get(files.model_id(name) or -1)
    return read.with_languages(
        source if source in read.languages and read.takes_source else None,
        target if target in read.languages else None,
    )
