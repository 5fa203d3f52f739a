"""A translation takes any two kinds: the same special ids, every target line back, one format on disk."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiktoken

from transformer_zoo.data import encode_corpus
from transformer_zoo.data.parallel import ParallelText
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    TranslationTokenizer,
    TranslationTokenizerSettings,
    WordTokenizer,
)
from transformer_zoo.tokenizers.kinds import KINDS
from transformer_zoo.tokenizers.translation import LineTokenizer, check_writable, unwritable_characters

SOURCES = ["hello world, ein Wort", "two  blanks and\tmore", "größer 漢字 🎉 12345 don't", "not"]
TARGETS = ["ein Hund schläft", "½ m² ｆｕｌｌ", "e\u0301 漢字", "ein Wort ｶﾞ"]
LOSSLESS = [kind for kind in KINDS if kind != "words"]  # except for white space


@pytest.fixture
def settings(hub: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., TranslationTokenizerSettings]:
    ranks = {bytes([i]): i for i in range(256)} | {b"ei": 256, b"ein": 257}
    small = tiktoken.Encoding("gpt2", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 258})
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: small)

    def make(kind: str, target_kind: str | None = None, **fields: Any) -> TranslationTokenizerSettings:
        kinds = {kind, target_kind}
        if "huggingface" in kinds:
            fields["folder"] = str(hub("gpt2"))
        if kinds & {"sentencepiece", "words"}:
            fields["vocab_size"] = 60
        if "sentencepiece" in kinds:
            fields["character_coverage"] = 1.0
        return TranslationTokenizerSettings(kind=kind, target_kind=target_kind, **fields)

    return make


Settings = Callable[..., TranslationTokenizerSettings]


@pytest.mark.parametrize(("kind", "target_kind"), list(itertools.product(KINDS, KINDS)))
def test_any_two_kinds(kind: str, target_kind: str, settings: Settings, tmp_path: Path) -> None:
    made = TranslationTokenizer.train(SOURCES, TARGETS, settings(kind, target_kind, joint=False))
    for side, of, lines in ((made.source, kind, SOURCES), (made.target, target_kind, TARGETS)):
        assert (side.pad_id, side.unk_id, side.bos_id, side.eos_id) == (0, 1, 2, 3)
        assert (side.inner.kind if isinstance(side, LineTokenizer) else side.kind) == of
        assert {0, 1, 2} <= set(side.special_ids)
        assert 3 not in side.special_ids
        for line, row in zip(lines, side.encode_batch(lines), strict=True):
            assert row == side.encode(line)
            assert all(4 <= i < side.vocab_size for i in row)
            assert not {*row} & {*side.special_ids, 3} or of == "words"
            assert side.decode([2, *row, 3, 0]) == side.decode(row)
        assert len(side.pieces) == side.vocab_size
        assert side.encode("") == []
    lost = check_writable(made.target, TARGETS).examples
    assert lost == [] if target_kind in LOSSLESS else len(lost) < len(TARGETS)
    made.save(tmp_path)
    again = TranslationTokenizer.load(tmp_path)
    assert again.fingerprint == made.fingerprint
    corpus = encode_corpus(ParallelText(SOURCES, TARGETS), again)
    assert [corpus.source[i] for i in range(4)] == made.source.encode_batch(SOURCES)
    assert [corpus.target[i] for i in range(4)] == made.target.encode_batch(TARGETS)
    assert made.fits(made.source.vocab_size, made.target.vocab_size) is None
    assert "target tokenizer does not fit" in str(made.fits(made.source.vocab_size, made.target.vocab_size + 1))
    if (kind, target_kind) == ("sentencepiece", "sentencepiece"):
        made.export(tmp_path / "out", model_type="marian")
    else:
        with pytest.raises(UserError, match="no counterpart of such a tokenizer for translations"):
            made.export(tmp_path / "out", model_type="marian")
    if target_kind != "sentencepiece":
        with pytest.raises(UserError, match=r"^tokenizer\.sample_alpha: .* draws no pieces"):
            made.target.draw(TARGETS, alpha=0.1, seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_may_share_one_vocabulary(kind: str, settings: Settings) -> None:
    made = TranslationTokenizer.train(SOURCES, TARGETS, settings(kind))
    assert made.joint
    assert made.source.vocab_size == made.target.vocab_size
    assert made.source.encode("ein Hund") == made.target.encode("ein Hund")


def test_what_a_kind_cannot_spell_is_unknown_and_no_prefix() -> None:
    side = LineTokenizer(CharacterTokenizer("abc "))
    assert side.encode_batch(["a?b", "c"]) == [[4, 1, 5], [6]]
    assert side.decode([4, 1, 5]) == "a ⁇ b"
    assert unwritable_characters(side, "a?b!") == ["?", "!"]
    assert side.special_ids == {0, 1, 2, 8}  # the end of text of the characters, too
    with pytest.raises(UserError, match="not valid Unicode"):
        side.encode("a\ud800")
    words = LineTokenizer(WordTokenizer(["so"], end_of_text=False))
    assert (words.encode("so what"), words.special_ids) == ([6, 4], {0, 1, 2, 4})


def test_half_a_character_waits_for_the_other_half() -> None:
    side = LineTokenizer(ByteTokenizer())
    ids = side.encode("é!")
    assert [side.decode_bytes(ids[:n]) for n in range(4)] == [b"", b"\xc3", "é".encode(), "é!".encode()]


@pytest.mark.parametrize("kind", ["words", "sentencepiece"])
def test_the_size_of_each_side(kind: str, settings: Settings) -> None:
    how = settings(kind, joint=False, target_vocab_size=33)
    letters = " ".join("abcdefghijklmnopqrstuvw")
    made = TranslationTokenizer.train([*SOURCES, letters], [f"x yy zzz {letters}"] * 9, how)
    assert made.target.vocab_size == (33 if kind == "sentencepiece" else 4 + 2 + 26)
    assert made.source.vocab_size <= 60


def test_what_is_saved_for_one_is_refused_for_the_other(tmp_path: Path) -> None:
    alone: Tokenizer = CharacterTokenizer("ab")
    alone.save(tmp_path / "alone")
    TranslationTokenizer(LineTokenizer(alone), LineTokenizer(alone)).save(tmp_path / "two")
    with pytest.raises(UserError, match="alone: a tokenizer of kind 'characters', which does not fit this model"):
        TranslationTokenizer.load(tmp_path / "alone")
    with pytest.raises(UserError, match="two: a tokenizer of kind 'translation', which does not fit this model"):
        Tokenizer.load(tmp_path / "two")
