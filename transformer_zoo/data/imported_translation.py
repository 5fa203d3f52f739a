"""Tokenizers of downloaded encoder-decoders: Marian, BART, mBART, M2M-100, NLLB, T5, with their languages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from transformer_zoo.characters import is_blank
from transformer_zoo.checksums import read_fields, write_fields
from transformer_zoo.data.pieces import Pieces
from transformer_zoo.data.tokenizer_files import TokenizerFiles
from transformer_zoo.data.tokenizers import IMPORTED, TranslationTokenizer
from transformer_zoo.data.translation_families import (
    FAMILIES,
    Family,
    MarianPieces,
    Mark,
    SentinelPieces,
    Vocabulary,
    family_of,
    unknown_language,
)
from transformer_zoo.errors import UserError


class ImportedSide:
    """The tokenizer of one side: ids with the tags that the model expects, but for a sentence's last token.

    Args:
        pieces: Its vocabulary.
        vocab_size: Ids of the model, of which the tokenizer may leave some unused.
        before, after: Ids around those of a text.
        hidden: Ids that are no text.
        special_ids: Those of them that stand nowhere in a target: unknown, padding, begin.
        refusal: Why nothing can be encoded yet.
    """

    def __init__(
        self,
        pieces: Pieces,
        vocab_size: int,
        *,
        before: Sequence[int],
        after: Sequence[int],
        hidden: set[int],
        special_ids: set[int],
        refusal: str | None,
    ) -> None:
        self.special_ids = frozenset(special_ids.difference(before))
        self.vocab_size, self._pieces, self._hidden, self._refusal = vocab_size, pieces, hidden, refusal
        self._before, self._after = list(before), list(after)

    def encode(self, text: str) -> list[int]:
        """Ids of one line, as `encode_batch`."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many lines: tags and tokens, without the token that ends a sentence.

        Raises:
            UserError: no language is chosen; a text that is not Unicode, or has a token that the model does not know.
        """
        if self._refusal is not None and not all(self.tag_of(text) or is_blank(text) for text in texts):
            raise UserError(self._refusal)
        rows = self._pieces.encode_batch(texts)
        if self._pieces.n_ids > self.vocab_size and (over := [i for r in rows for i in r if i >= self.vocab_size]):
            raise UserError(f"the text has token {over[0]}, and the model knows only {self.vocab_size}: leave it out")
        return [
            [*([] if self.tag_of(text) else self._before), *row, *self._after]
            for text, row in zip(texts, rows, strict=True)
        ]

    def tag_of(self, text: str) -> str:
        """The code that a line for a Marian may bring along, which then counts, whatever is chosen; "" for none."""
        return self._pieces.code_of(text) if isinstance(self._pieces, MarianPieces) else ""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens and tags give nothing."""
        return self._pieces.decode([i for i in ids if i not in self._hidden])


class ImportedTranslationTokenizer:
    """The tokenizers of both sides of a model that came with them; `import_translation_tokenizer` makes it.

    Args:
        files: What it is made of.
        family: A row of `FAMILIES`.
        vocab_sizes: Ids of the model, source and target; None: as many as the tokenizer has.
        languages: Codes of the source's and of the target's language, where the model has several.
        vocabulary: What `files` hold, if it has been read already.

    Attributes:
        source, target: The sides.
        joint: Both sides have the same ids.
        languages: Codes to choose from; none for most models.
        source_language, target_language: Those that are chosen.
        eos_id: What ends a sentence.
        text_bos_id: The token that the files call bos; None: they have none.
        bos_id: What a target starts with, where that is its language's tag; None: the model's own bos_id.
        source_end_id: What ends a source, where that is its language's tag; None: eos_id.
    """

    def __init__(
        self,
        files: TokenizerFiles,
        family: str,
        *,
        vocab_sizes: tuple[int | None, int | None] = (None, None),
        languages: tuple[str | None, str | None] = (None, None),
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
        self.source_language, self.target_language = (self._code(code) for code in languages)
        size = vocab_sizes[0] or vocabulary.source.n_ids
        self._vocab_sizes = size, size if self.joint else vocab_sizes[1] or vocabulary.target.n_ids
        marks = self._marks()
        self.eos_id, self.text_bos_id = marks["eos"], marks.get("bos")
        self.bos_id = marks.get(row.bos) if row.bos else None
        self.source_end_id = marks.get(row.source_end) if row.source_end else None
        source, target = row.source_marks, row.target_marks
        self.source = self._side(vocabulary.source, 0, row.source_before, row.source_after, self._refusal(source))
        self.target = self._side(vocabulary.target, 1, row.target_before, (), self._refusal(target))

    def _marks(self) -> dict[Mark, int]:
        """Ids of what may stand around a text."""
        pieces, languages = self._vocabulary.source, self._vocabulary.languages
        chosen = {"source": self.source_language, "target": self.target_language}
        marks: dict[Mark, int] = {side: languages[code] for side, code in chosen.items() if code is not None}  # type: ignore[misc]
        tokens: dict[Mark, str] = {
            "bos": self.files.token("cls_token") or self.files.token("bos_token") or "<s>",
            "eos": self.files.token("eos_token") or "</s>",
        }
        for mark, token in tokens.items():
            i = pieces.id_of(token)
            if i is not None:
                marks[mark] = i
            elif mark == "eos" or mark in self._row.source_marks:
                raise UserError(f"{self.files.folder}: the tokenizer's vocabulary has no {token}; fetch it again")
        return marks

    def _side(
        self, pieces: Pieces, number: int, before: Sequence[Mark], after: Sequence[Mark], refusal: str | None
    ) -> ImportedSide:
        marks, roles = self._marks(), ("bos", "eos", "unk", "pad", "sep", "cls", "mask")
        names = {self.files.token(f"{role}_token") for role in roles} | {"<s>", "</s>", "<unk>", "<pad>"}
        hidden = {i for name in names if name and (i := pieces.id_of(name)) is not None}
        hidden |= set(self._vocabulary.languages.values())
        if isinstance(pieces, SentinelPieces):
            hidden |= set(pieces.sentinels.values())
        return ImportedSide(
            pieces,
            self._vocab_sizes[number],
            before=[marks[mark] for mark in before if mark in marks],
            after=[marks[mark] for mark in after if mark in marks],
            hidden=hidden,
            special_ids={i for role in ("pad", "unk", "bos") if (i := self._role_id(pieces, role)) is not None},
            refusal=refusal,
        )

    def _role_id(self, pieces: Pieces, role: str) -> int | None:
        token = self.files.token(f"{role}_token") or {"pad": "<pad>", "unk": "<unk>", "bos": "<s>"}[role]
        return pieces.id_of(token)

    def _refusal(self, needed: set[Mark]) -> str | None:
        """What to say when a language that is needed has not been chosen."""
        chosen = {"source": self.source_language, "target": self.target_language}
        missing = [side for side in ("source", "target") if side in needed and chosen[side] is None]
        if not missing or len(self.languages) < 2:
            return None
        other = (
            "" if self._row.tag != ">>{}<<" else f", or begin each line with {self._row.tag.format(self.languages[0])}"
        )
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
        if not self.languages:
            raise UserError(f"language {code!r}: this model has no languages to choose from; leave it out")
        raise UserError(unknown_language(code, self.languages))

    @property
    def takes_source(self) -> bool:
        """Whether a source language can be chosen; some models are told the target's only."""
        return "source" in self._row.source_marks

    @property
    def first_id(self) -> int | None:
        """What each target has before its text, such as its language's tag; None: nothing, or none is chosen."""
        return next(iter(self.target._before), None)

    def with_languages(self, source: str | None = None, target: str | None = None) -> "ImportedTranslationTokenizer":
        """The tokenizer for these languages; None: as before.

        Raises:
            UserError: the model has no such language (near ones are named), or none at all, or a source language is
                chosen for a model that only asks for the target's.
        """
        if source is not None and self.languages and not self.takes_source:
            raise UserError(f"source language {source!r}: this model is told the target language only; leave it out")
        return ImportedTranslationTokenizer(
            self.files,
            self.family,
            vocab_sizes=self._vocab_sizes,
            languages=(source or self.source_language, target or self.target_language),
            vocabulary=self._vocabulary,
        )

    def save(self, folder: str | Path) -> None:
        """Write the files as they were, and `translation_tokenizer.json`, which says what they are."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / IMPORTED).unlink(missing_ok=True)
        self.files.save(folder)
        fields = {
            "family": self.family,
            "model_type": self.files.model.get("model_type"),
            "vocab_sizes": self._vocab_sizes,
            "languages": [self.source_language, self.target_language],
            "files": self.files.checksums,
        }
        write_fields(folder / IMPORTED, fields)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: a file is missing or damaged.
        """
        folder = Path(folder)
        try:
            fields = read_fields(folder / IMPORTED, remedy="import the model again")
            family, (size, target_size), (source, target) = (
                fields[name] for name in ("family", "vocab_sizes", "languages")
            )
            files = TokenizerFiles.load(folder, fields["files"], {"model_type": fields["model_type"]})
            if family not in FAMILIES or not (type(size) is type(target_size) is int):
                raise ValueError
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"{folder / IMPORTED}: cannot read the tokenizer ({error.strerror})") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{folder / IMPORTED}: damaged; import the model again") from None
        return cls(files, family, vocab_sizes=(size, target_size), languages=(source, target))


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
    return read.with_languages(*_chosen_languages(files, read, read._row)) if read.languages else read


def _chosen_languages(
    files: TokenizerFiles, tokenizer: ImportedTranslationTokenizer, row: Family
) -> tuple[str | None, str | None]:
    """What the tokenizer's settings name, or the target tag that the model's configuration forces."""
    source, target = files.settings.get("src_lang"), files.settings.get("tgt_lang")
    codes = {i: code for code, i in tokenizer._vocabulary.languages.items()}
    for name in ("forced_bos_token_id", "decoder_start_token_id"):
        target = target or codes.get(files.model_id(name) or -1)
    return (
        source if source in tokenizer.languages and "source" in row.source_marks else None,
        target if target in tokenizer.languages else None,
    )


def load_translation_tokenizer(folder: str | Path) -> TranslationTokenizer | ImportedTranslationTokenizer:
    """Whatever tokenizer a translation run has, imported or trained.

    Raises:
        UserError: there is none, or a file is missing or damaged.
    """
    folder = Path(folder)
    if (folder / IMPORTED).exists():
        return ImportedTranslationTokenizer.load(folder)
    return TranslationTokenizer.load(folder)
