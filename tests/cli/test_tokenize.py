"""`tokenize`: the pieces and ids of a text, of runs of every kind."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from transformer_zoo.cli import main
from transformer_zoo.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    TranslationTokenizer,
    TranslationTokenizerSettings,
    WordTokenizer,
)

Shown = Callable[..., list[str]]


@pytest.fixture
def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shown:
    def show(tokenizer: Tokenizer | TranslationTokenizer, *words: str) -> list[str]:
        tokenizer.save(tmp_path / "tokenizer")
        assert main(["tokenize", str(tmp_path), *words]) == 0
        return capsys.readouterr().out.splitlines()

    return show


def test_a_line_for_each_piece(shown: Shown) -> None:
    assert shown(CharacterTokenizer("abc\n "), "b c\n") == ["1  'b'", "4  ' '", "2  'c'", "3  '\\n'"]
    assert shown(ByteTokenizer(), "é") == ["195  '\\\\xc3'", "169  '\\\\xa9'"]
    assert shown(WordTokenizer(["so"]), "so what") == ["2  'so'", "0  '<unk>'", "which is 'so <unk>'"]
    assert shown(ByteTokenizer(), "") == []


def test_both_sides_of_a_translation(shown: Shown) -> None:
    settings = TranslationTokenizerSettings(vocab_size=20, joint=False, target_kind="characters")
    tokenizer = TranslationTokenizer.train(["one two three"] * 3, ["drei zwei"] * 3, settings)
    found = json.loads(shown(tokenizer, "two", "--json")[0])
    assert found["ids"] == tokenizer.source.encode("two")
    assert ("".join(found["pieces"]), found["text"]) == ("▁two", "two")
    assert shown(tokenizer, "drei", "--target") == [f"{i}  '{c}'" for i, c in zip([5, 8, 6, 7], "drei", strict=True)]
    assert shown(tokenizer, "dei!", "--target")[-2:] == ["1  '<unk>'", "which is 'dei ⁇ '"]


def test_what_cannot_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenize", str(tmp_path), "a"]) == 1
    assert "no tokenizer here" in capsys.readouterr().err
    CharacterTokenizer("a").save(tmp_path / "tokenizer")
    for words, message in ((["b"], "character 'b'"), (["a", "--target"], "does not translate: leave --target out")):
        assert main(["tokenize", str(tmp_path), *words]) == 1
        assert message in capsys.readouterr().err
