"""Tokenizers of downloaded encoder-decoders: Marian, BART, mBART, M2M-100, NLLB, T5, ByT5, Pegasus, FSMT."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from transformer_zoo.characters import is_blank
from transformer_zoo.errors import UserError
from transformer_zoo.files import write_json
from transformer_zoo.tokenizers.families import FAMILIES, Vocabulary, family_of, unknown_language
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.kinds.huggingface import HuggingFaceTokenizer
from transformer_zoo.tokenizers.saved import write_files
from transformer_zoo.tokenizers.tokenizer import Spelling
from transformer_zoo.tokenizers.translation import TranslationTokenizer

_SIDES = "source", "target"
_USUAL = {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "eos": "</s>", "sep": "", "cls": "", "mask": ""}


class ImportedSide(HuggingFaceTokenizer):
    """The tokenizer of one side of a translation: ids with the tags that the model expects, without the last token."""

    def __init__(self, of: "ImportedTranslationTokenizer", side: str) -> None:
        pieces, marks, size = getattr(of.vocabulary, side), of.marks, of.vocab_sizes[_SIDES.index(side)]
        super().__init__(of.files, vocab_size=size, eos_id=marks["eos"], pieces=pieces)
        before, after, _ = of.row.around(side)
        self.before, self._after = [marks[mark] for mark in before if mark in marks], [marks[mark] for mark in after]
        self._refusal, self._tags = of.refusal(side), of.vocabulary.languages
        named = {role: of.files.token(f"{role}_token") or usual for role, usual in _USUAL.items()}
        unwritten = (pieces.ids.get(named[role]) for role in ("pad", "unk", "bos"))
        self.special_ids = frozenset(i for i in unwritten if i is not None).difference(self.before)
        hidden = {pieces.ids.get(token) for token in (*named.values(), *_USUAL.values())}
        self._hidden = hidden | {*self._tags.values()}
        self.starts = self._hidden - {pieces.ids.get(named["unk"])}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many lines: tags and tokens, without the token that ends a sentence.

        The code in a line for a Marian takes precedence over the chosen one. UserError: there is no code at all.
        """
        if self._refusal is not None and not all(self.tag_of(text) or is_blank(text) for text in texts):
            raise UserError(self._refusal)
        return [
            [*([] if self.tag_of(text) else self.before), *row, *self._after]
            for text, row in zip(texts, super().encode_batch(texts), strict=True)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        return super().decode(ids).replace("▁", " ").strip()

    @cached_property
    def spelling(self) -> Spelling:
        spelled, blanks = self.vocabulary.spelling
        return {i: text for i, text in spelled.items() if i not in self._hidden}, blanks

    @cached_property
    def pieces(self) -> list[str]:
        languages = {i: code for code, i in self._tags.items()}  # the files may omit them
        return [piece or languages.get(i, "") for i, piece in enumerate(super().pieces)]


class ImportedTranslationTokenizer(TranslationTokenizer):
    """The tokenizers of both sides of a model that came with them; `import_translation_tokenizer` makes it.

    Args:
        files: The files that it is made from.
        family: A row of `FAMILIES`.
        vocab_sizes: Number of ids of the model, source and target; None: as many as the tokenizer has.
        chosen: Codes of the source's and of the target's language, if the model has several.
        vocabulary: The vocabulary in `files`, if it has been read already.
    """

    kind, has_spare_rows = "imported translation", True
    made_of = ("files", "family", "vocab_sizes", "chosen")

    def __init__(
        self,
        files: TokenizerFiles,
        family: str,
        *,
        vocab_sizes: Sequence[int | None] = (None, None),
        chosen: Sequence[str | None] = (None, None),
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self.files, self.family, self.row = files, family, FAMILIES[family]
        read = vocabulary or self.row.read(files)
        self.vocabulary = read if isinstance(read, Vocabulary) else Vocabulary(read, read)
        self.languages, self.joint = tuple(self.vocabulary.languages), self.vocabulary.joint
        self.takes_source = "source" in self.row.source
        if self.takes_source and not self.languages:
            raise UserError(
                f"{files.folder}: the tokenizer has no languages, but a model of its kind is told them by tags"
            )
        self.source_language, self.target_language = self.chosen = [self._code(code) for code in chosen]
        source_size, target_size = vocab_sizes
        source_size = source_size or self.vocabulary.source.n_ids
        self.vocab_sizes = [source_size, source_size if self.joint else target_size or self.vocabulary.target.n_ids]
        self.marks = self._marks()
        _, _, end = self.row.around("source")
        self.text_bos_id, self.bos_id = self.marks.get("bos"), self.marks.get(self.row.bos)
        self.source_end_id = None if end == "eos" else self.marks.get(end)
        target = ImportedSide(self, "target")
        super().__init__(ImportedSide(self, "source"), target)
        self.first_id = next(iter(target.before), None)

    # A Marian of two languages has no tags, but its files name the languages.
    @property
    def language_of_source(self) -> str | None:  # type: ignore[override]
        return self._language(self.source_language, "source_lang", 0)

    @property
    def language_of_target(self) -> str | None:  # type: ignore[override]
        return self._language(self.target_language, "target_lang", 1)

    def _language(self, chosen: str | None, field: str, side: int) -> str | None:
        langs = self.files.settings.get("langs")
        said = chosen or self.files.settings.get(field) or (langs[side] if self.family == "fsmt" and langs else None)
        return said if isinstance(said, str) else None

    def _marks(self) -> dict[str, int]:
        """Ids of the tokens that may stand around a text."""
        ids, languages = self.vocabulary.source.ids, self.vocabulary.languages
        chosen = zip(_SIDES, self.chosen, strict=True)
        marks: dict[str, int] = {side: languages[code] for side, code in chosen if code is not None}
        bos = self.files.token("cls_token") or self.files.token("bos_token") or "<s>"
        for mark, token in {"bos": bos, "eos": self.files.token("eos_token") or "</s>"}.items():
            if token in ids:
                marks[mark] = ids[token]
            elif mark in self.row.source:
                raise UserError(f"{self.files.folder}: the tokenizer's vocabulary has no {token}; fetch it again")
        return marks

    def refusal(self, side: str) -> str | None:
        """The message when a side needs a language and none has been chosen."""
        needs = (self.row.source if side == "source" else f"{self.row.target} {self.row.bos}").split()
        missing = [name for name, code in zip(_SIDES, self.chosen, strict=True) if name in needs and code is None]
        if not missing or len(self.languages) < 2:
            return None
        tag = self.row.tag.format(self.languages[0])
        other = f", or begin each line with {tag}" if tag.startswith(">>") else ""
        return (
            f"the model has {len(self.languages)} languages ({', '.join(self.languages[:4])}, ...), and no "
            f"{missing[0]} language is chosen: choose one{other}"
        )

    def _code(self, code: str | None) -> str | None:
        """The tokenizer's name of a language, which may be given by its tag too."""
        start, end = self.row.tag.split("{}")
        for known in (code, code and code.removeprefix(start).removesuffix(end)):
            if known is None or known in self.languages:
                return known
        raise UserError(unknown_language(str(code), self.languages))

    def with_languages(self, source: str | None = None, target: str | None = None) -> "ImportedTranslationTokenizer":
        if not self.languages:
            super().with_languages()
        if source is not None and not self.takes_source:
            raise UserError(f"source language {source!r}: this model is told the target language only; leave it out")
        return ImportedTranslationTokenizer(
            self.files,
            self.family,
            vocab_sizes=self.vocab_sizes,
            chosen=(source or self.source_language, target or self.target_language),
            vocabulary=self.vocabulary,
        )

    def export(self, folder: str | Path, *, model_type: str) -> None:
        """Write the files unchanged, except for the chosen languages."""
        folder, name = Path(folder), "tokenizer_config.json"
        write_files(folder, self.files.contents)
        languages = {"src_lang": self.source_language, "tgt_lang": self.target_language} if self.takes_source else {}
        chosen = {field: code for field, code in languages.items() if code is not None}
        settings = self.files.json(name)
        if settings | chosen != settings:
            write_json(folder / name, settings | chosen)


def import_translation_tokenizer(folder: str | Path) -> ImportedTranslationTokenizer:
    """The tokenizer of the encoder-decoder in `folder`, in the form in which it was downloaded.

    The vocabulary sizes are those of config.json if it exists: the model may have rows that no token uses. A
    multilingual model's languages are those that its files choose, if they do; see `with_languages`.
    >>> pair = TranslationTokenizer.train(["to be"], ["sein"], TranslationTokenizerSettings(vocab_size=14))
    >>> pair.export("folder", model_type="marian")
    >>> import_translation_tokenizer("folder").source.encode("to be") == pair.source.encode("to be")
    True

    Raises:
        UserError: there is no folder, it has no tokenizer or one of another family, or a file is damaged.
    """
    files = TokenizerFiles.read(Path(folder))
    source_size = files.model_id("src_vocab_size") or files.model_id("vocab_size")
    target_sizes = (files.model_id(name) for name in ("tgt_vocab_size", "decoder_vocab_size"))
    sizes = (source_size, next(filter(None, target_sizes), source_size))
    read = ImportedTranslationTokenizer(files, family_of(files), vocab_sizes=sizes)
    _ = read.target.decode([])  # it is better to refuse now what cannot be shown
    if not read.languages:
        return read
    # The languages in the tokenizer's settings, or the target tag that the model's configuration forces.
    source, target = files.settings.get("src_lang"), files.settings.get("tgt_lang")
    codes = {i: code for code, i in read.vocabulary.languages.items()}
    for name in ("forced_bos_token_id", "decoder_start_token_id"):
        target = target or codes.get(files.model_id(name) or -1)
    return read.with_languages(
        source if source in read.languages and read.takes_source else None,
        target if target in read.languages else None,
    )
