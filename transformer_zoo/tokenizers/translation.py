"""The tokenizers of a translation, one for each side, of any kinds; and the check of which target lines they can
write."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from transformer_zoo.errors import UserError
from transformer_zoo.files import write_json
from transformer_zoo.tokenizers.kinds import kind_of
from transformer_zoo.tokenizers.kinds.sentencepiece import SentencePieceTokenizer
from transformer_zoo.tokenizers.saved import Saved, write_files
from transformer_zoo.tokenizers.settings import (
    BOS_ID,
    EOS_ID,
    N_SPECIAL,
    PAD_ID,
    UNK_ID,
    TranslationTokenizerSettings,
)
from transformer_zoo.tokenizers.tokenizer import PLAIN, UNKNOWN, SideLines, Tokenizer, check_unicode, utf8

_EXAMPLES = 5
_CHUNK = 10_000
_SHOWN_CHARACTERS = 60


class LineTokenizer(Tokenizer):
    """Another tokenizer's ids behind four ids that it lacks: pad 0, unk 1, bos 2, eos 3.

    Text that it cannot spell is unknown. Its own end-of-text is never in a line.

    Args:
        inner: The other tokenizer.
    """

    kind, made_of = "lines", ("inner",)
    pad_id, unk_id, bos_id, eos_id = PAD_ID, UNK_ID, BOS_ID, EOS_ID

    def __init__(self, inner: Tokenizer) -> None:
        self.inner, self.vocab_size = inner, N_SPECIAL + inner.vocab_size
        unwritten = {*inner.special_ids} if inner.eos_id is None else {*inner.special_ids, inner.eos_id}
        self.special_ids = frozenset({PAD_ID, UNK_ID, BOS_ID, *(N_SPECIAL + i for i in unwritten)})

    @property
    def name(self) -> str:
        return f"lines of {self.inner.name}"

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            return [[N_SPECIAL + i for i in row] for row in self.inner.encode_batch(texts)]
        except UserError:
            return [self._spell(text) for text in texts]

    def _spell(self, text: str) -> list[int]:
        """Encode character by character a text that cannot be spelled as a whole."""
        try:
            return [N_SPECIAL + i for i in self.inner.encode(text)]
        except UserError:
            utf8(text)
            return [UNK_ID] if len(text) == 1 else [i for character in text for i in self._spell(character)]

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        parts, run = [], []
        for i in ids:
            if i >= N_SPECIAL and i - N_SPECIAL != self.inner.eos_id:
                run.append(i - N_SPECIAL)
            elif i == UNK_ID:
                parts += [self.inner.decode_bytes(run), UNKNOWN]
                run = []
        return b"".join([*parts, self.inner.decode_bytes(run)])

    @cached_property
    def pieces(self) -> list[str]:
        return ["<pad>", "<unk>", "<s>", "</s>", *self.inner.pieces]


class TranslationTokenizer(Saved):
    """The tokenizers of both sides. With a joint vocabulary their pieces are the same, and only their normalization
    differs.
    >>> pair = TranslationTokenizer.train(["ja"], ["yes"], TranslationTokenizerSettings(kind="bytes"))
    >>> pair.target.encode("yes")
    [125, 105, 119]

    Args:
        source, target: The tokenizers of the two sides.

    Attributes:
        languages: Codes to choose from, for a multilingual model; empty for most.
        source_language, target_language: The chosen codes.
        takes_source: Whether a source language can be chosen; some models are only told the target's.
        language_of_source, language_of_target: The codes of the languages, if the tokenizer is made for one.
        bos_id: The token that a target starts with, if the tokenizer decides that and not the model; otherwise None.
        source_end_id: The token that ends a source, if the tokenizer decides that; otherwise None.
        eos_id: The token that ends a sentence.
        first_id: The token before the text of each target, such as its language's tag; None: there is none, or none
            chosen.
        has_spare_rows: Whether a model may have more embeddings than it has ids.
        text_bos_id: The token that the files of a downloaded model call bos; None: they have none.
    """

    kind = "translation"
    made_of: ClassVar[Sequence[str]] = ("source", "target")
    languages: tuple[str, ...] = ()
    source_language: str | None = None
    target_language: str | None = None
    language_of_source: str | None = None
    language_of_target: str | None = None
    eos_id: int | None
    takes_source: bool = False
    bos_id: int | None = None
    source_end_id: int | None = None
    has_spare_rows: bool = False
    first_id: int | None = None
    text_bos_id: int | None = None

    def __init__(self, source: Tokenizer, target: Tokenizer) -> None:
        if not (isinstance(source, Tokenizer) and isinstance(target, Tokenizer)):
            raise TypeError("source and target of a translation are tokenizers")
        self.source, self.target, self.eos_id = source, target, target.eos_id

    @cached_property
    def joint(self) -> bool:
        """Whether both sides have the same pieces."""
        return self.source.pieces == self.target.pieces

    def fits(self, n_source: int, n_target: int) -> str | None:
        """What is wrong with a model of this many embeddings; None: it has one for each id."""
        for name, side, n in (("source", self.source, n_source), ("target", self.target, n_target)):
            if side.vocab_size > n or (side.vocab_size < n and not self.has_spare_rows):
                return f"the {name} tokenizer does not fit the model: {side.vocab_size} tokens for {n}"
        return None

    def with_languages(self, source: str | None = None, target: str | None = None) -> "TranslationTokenizer":
        """The tokenizer for these languages; None: unchanged.

        Raises:
            UserError: the model lacks such a language (similar ones are named), or has no choice of languages; or a
                source language is chosen for a model that only asks for the target's.
        """
        raise UserError("has no languages to choose from: leave source and target language out")

    @classmethod
    def train(
        cls, source: Iterable[str], target: Iterable[str], settings: TranslationTokenizerSettings, *, seed: int = 0
    ) -> "TranslationTokenizer":
        """Make tokenizers by `settings` from the lines. UserError: the settings contradict each other, or need more
        lines."""
        settings.check()
        both = [
            SideLines(list(source), settings.normalization, is_target=False),
            SideLines(list(target), settings.target_normalization, is_target=True),
        ]
        for side in both:
            check_unicode(side.lines)
        groups = [both] if settings.joint else [[side] for side in both]
        sizes = (settings.vocab_size, settings.target_vocab_size or settings.vocab_size)
        made = [
            side
            for group, kind, size in zip(groups, settings.kinds, sizes, strict=False)
            for side in kind_of(kind).make_sides(settings, size, group, seed=seed)
        ]
        return TranslationTokenizer(*(LineTokenizer(side) if side.bos_id is None else side for side in made))

    def export(self, folder: str | Path, *, model_type: str) -> None:
        """Write Marian's files: source.spm, target.spm, vocab.json (and target_vocab.json), which map pieces to ids.

        `transformers.AutoTokenizer` reads them, with the same ids. The only difference: a Marian takes `>>...<<` at the
        start of a line for a tag.

        Raises:
            UserError: the sides are not SentencePiece models.
        """
        source, target, folder = self.source, self.target, Path(folder)
        if not (isinstance(source, SentencePieceTokenizer) and isinstance(target, SentencePieceTokenizer)):
            names = " and ".join(dict.fromkeys((source.name, target.name)))
            raise UserError(f"{names}: transformers has no counterpart of such a tokenizer for translations")
        write_files(folder, {"source.spm": source.model, "target.spm": target.model})
        for name, side in {"vocab.json": source, "target_vocab.json": target}.items():
            if side is source or not self.joint:
                write_json(folder / name, {piece: i for i, piece in enumerate(side.pieces)})
        ids = {"pad": source.pad_id, "unk": source.unk_id, "bos": source.bos_id, "eos": source.eos_id}
        special = {f"{role}_token": source.pieces[i] for role, i in ids.items()}
        settings = {"tokenizer_class": "MarianTokenizer", "separate_vocabs": not self.joint, **special, **PLAIN}
        write_json(folder / "tokenizer_config.json", settings)
        write_json(folder / "special_tokens_map.json", special)


@dataclass(frozen=True)
class WritableReport:
    """How many of some lines do not come back from their ids, and five of them with what comes back."""

    lines: int
    not_writable: int
    examples: list[dict[Literal["line", "at_best"], str]]

    def __str__(self) -> str:
        shown = "; ".join(f"{_short(one['line'])} at best as {_short(one['at_best'])}" for one in self.examples)
        share = self.not_writable / max(1, self.lines)
        return f"{self.not_writable:,} of {self.lines:,} targets ({share:.2%}) cannot be written: {shown}"


def check_writable(side: Tokenizer, lines: Sequence[str]) -> WritableReport:
    """Which of the lines a tokenizer does not give back, apart from white space."""
    lost = ((line, back) for line, back in round_trips(side, lines) if line.split() != back.split())
    shown = list(islice(lost, _EXAMPLES))
    n_lost = len(shown) + sum(1 for _ in lost)
    return WritableReport(len(lines), n_lost, [{"line": line, "at_best": back} for line, back in shown])


def report_unwritable(
    side: Tokenizer, texts: Mapping[str, Sequence[str]], say: Callable[[str], object]
) -> dict[str, dict[str, Any]]:
    """Warn about the lines of each text that cannot be written; returns the reports as plain data."""
    reports = {name: check_writable(side, lines) for name, lines in texts.items()}
    for name, report in reports.items():
        if report.not_writable:
            say(f"warning: {name}: {report} (see tokenizer.target_normalization, character_coverage and byte_fallback)")
    return {name: asdict(report) for name, report in reports.items()}


def round_trips(side: Tokenizer, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each line, and the text of its ids."""
    for start in range(0, len(lines), _CHUNK):
        chunk = lines[start : start + _CHUNK]
        yield from zip(chunk, map(side.decode, side.encode_batch(chunk)), strict=True)


def unwritable_characters(side: Tokenizer, text: str) -> list[str]:
    """The characters of a text that the tokenizer cannot write, in order; [] if it gives the text back.

    If each character alone can be written, and the text cannot, it is all of them.
    """
    [(_, back)] = round_trips(side, [text])
    if text.split() == back.split():
        return []
    characters = [c for c in dict.fromkeys(text) if not c.isspace()]
    return [c for c, back in round_trips(side, characters) if back.split() != [c]] or characters


def _short(line: str) -> str:
    return repr(line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…")
