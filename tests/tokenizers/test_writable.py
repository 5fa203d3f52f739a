"""What a target line says can be written; what cannot is known, and shown."""

import itertools
import random
import unicodedata
from typing import Any, get_args

import pytest

from transformer_zoo.evaluation import corpus_score
from transformer_zoo.tokenizers import TranslationTokenizer, TranslationTokenizerSettings
from transformer_zoo.tokenizers.settings import ModelType, Normalization
from transformer_zoo.tokenizers.translation import check_writable, unwritable_characters

CHINESE = ["你好，世界！", "他问：“你去哪里？”", "价格是３０元；便宜。", "今天很好，走吧！"]
OTHER = ["Der Raum hat 20 m².", "H₂O", "½ Liter", "Warten …", "می\u200cخواهم", "№ 5 ™"]
# Ligatures, full width, joiners, combining marks apart and composed, jamo, emoji, tags, marks, controls, markup,
# every white space, what SentencePiece keeps for itself, private use, non-characters.
NASTY = [
    "ﬁ ﬂ ĳ Ⅷ ㎏ ㈱ ﷺ", "ｆｕｌｌ　ｗｉｄｔｈ！？～", "e\u0301 é q\u0323\u0307 q\u0307\u0323", "\u1112\u1161\u11ab 한",
    "👩\u200d👩\u200d👧 👍🏽 🏴\U000e0067\U000e0062\U000e007f 🇩🇪", "a\u200bb\u200ec\u2060d\ufefff\u00adg", "\ufeffx",
    "a\x01b\x07c\x1bd\x7fe\x80", "<s> </s> <unk> <pad> ⁇ <0x41> &amp;", "a\u00a0b\u202fc\u3000d\u2028e\x85f\tg\x1ch",
    "▁ ▅ a▁b ▅▅ ▁▁x", "\ue000 \U000f0000 \U0010fffd", "\ufffd \uffff", "İ ı ẞ ß ſ Å Ω", "１２３ ①② ¼ ⁄", "क्षि ก็ ำ",
]  # fmt: skip


def drawn(n: int, seed: int) -> list[str]:
    """Lines of any characters that are one."""
    draw = random.Random(seed)
    known = [chr(i) for i in range(1, 0x3200) if unicodedata.category(chr(i)) not in ("Cs", "Cn")]
    return ["".join(draw.choices([*known, *" " * 300], k=draw.randint(1, 9))) for _ in range(n)]


def words(n: int, seed: int) -> list[str]:
    """Lines of three words."""
    draw = random.Random(seed)
    return [" ".join("".join(draw.choices("abcdefgh", k=4)) for _ in range(3)) for _ in range(n)]


def lost(tokenizer: TranslationTokenizer, lines: list[str]) -> list[str]:
    texts = map(tokenizer.target.decode, tokenizer.target.encode_batch(lines))
    return [line for line, text in zip(lines, texts, strict=True) if text.split() != line.split()]


@pytest.mark.parametrize("model_type", get_args(ModelType))
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("normalization", get_args(Normalization))
@pytest.mark.parametrize("training_lines", [0, 300])
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_every_target_line_comes_back(
    byte_fallback: bool, training_lines: int, normalization: Normalization, joint: bool, model_type: ModelType
) -> None:
    targets = [*CHINESE, *OTHER, *NASTY, *drawn(40, 1), *words(300, 2)]
    how = {"joint": joint, "model_type": model_type, "training_lines": training_lines, "byte_fallback": byte_fallback}
    sources = [f"Ｆull ½ {word}" for word in words(300, 3)]
    size = 490 + 256 * byte_fallback
    made = TranslationTokenizerSettings(vocab_size=size, normalization=normalization, **how)
    if not joint:
        made.vocab_size, made.target_vocab_size = 55 + 256 * byte_fallback, size
    tokenizer = TranslationTokenizer.train(sources, targets, made)
    assert tokenizer.joint == joint
    assert lost(tokenizer, targets) == []
    assert not any(tokenizer.target.unk_id in ids for ids in tokenizer.target.encode_batch(targets))
    drawn_ids = tokenizer.target.draw(targets, alpha=0.3, seed=3)
    assert [tokenizer.target.decode(ids).split() for ids in drawn_ids] == [line.split() for line in targets]
    report = check_writable(tokenizer.target, targets)
    assert (report.lines, report.not_writable, report.examples) == (len(targets), 0, [])


@pytest.mark.parametrize(("lines", "tokenize", "size"), [(CHINESE, "zh", 60), (OTHER, "13a", 70)])
@pytest.mark.parametrize("normalization", ["nmt_nfkc", "identity"])
def test_the_best_possible_output_has_a_bleu_of_100(
    normalization: Normalization, lines: list[str], tokenize: str, size: int
) -> None:
    how = TranslationTokenizerSettings(vocab_size=size, normalization=normalization)
    tokenizer = TranslationTokenizer.train(["source words"] * 3, lines * 3, how)
    best = [tokenizer.target.decode(ids) for ids in tokenizer.target.encode_batch(lines)]
    assert corpus_score(best, lines, tokenize=tokenize)[0].score == pytest.approx(100)


def test_sources_are_normalized_and_share_the_pieces() -> None:
    tokenizer = TranslationTokenizer.train(
        ["½ ﬁne Ｆoo"] * 3, ["½ ﬁne Ｆoo"] * 3, TranslationTokenizerSettings(vocab_size=26)
    )
    source, target = tokenizer.source, tokenizer.target
    assert (source.decode(source.encode("½ ﬁ Ｆ")), target.decode(target.encode("½ ﬁ Ｆ"))) == ("1⁄2 fi F", "½ ﬁ Ｆ")
    assert source.pieces == target.pieces
    assert source.encode("oo ne") == target.encode("oo ne")


@pytest.mark.parametrize("byte_fallback", [False, True])
@pytest.mark.parametrize("joint", [False, True])
def test_what_a_setting_makes_impossible_is_counted_and_shown(joint: bool, byte_fallback: bool) -> None:
    sources = ["some words"] * len(OTHER)
    how: dict[str, Any] = {"joint": joint, "byte_fallback": byte_fallback}
    size = 70 + 256 * byte_fallback
    normalized = TranslationTokenizerSettings(vocab_size=size, target_normalization="nfkc", **how)
    if not joint:
        normalized.vocab_size, normalized.target_vocab_size = 15 + 256 * byte_fallback, size - 3
    tokenizer = TranslationTokenizer.train(sources, OTHER, normalized)
    report = check_writable(tokenizer.target, OTHER)
    kept = [line for line in OTHER if unicodedata.normalize("NFKC", line).split() == line.split()]
    assert (report.lines, report.not_writable) == (len(OTHER), len(OTHER) - len(kept)) == (6, 5)
    assert len(report.examples) == 5
    assert report.examples[0] == {"line": "Der Raum hat 20 m².", "at_best": "Der Raum hat 20 m2."}
    assert str(report).startswith("5 of 6 targets (83.33%) cannot be written: 'Der Raum hat 20 m².' at best as ")

    rare = ["aaaa bbbb"] * 100 + ["aaaa ж"]
    how = {"byte_fallback": byte_fallback, "character_coverage": 0.98}
    covered = TranslationTokenizerSettings(vocab_size=10 + 256 * byte_fallback, **how)
    tokenizer = TranslationTokenizer.train(["ab"] * 101, rare, covered)
    report = check_writable(tokenizer.target, rare)
    assert report.not_writable == (0 if byte_fallback else 1)
    assert report.examples == ([] if byte_fallback else [{"line": "aaaa ж", "at_best": "aaaa  ⁇ "}])


def test_characters_that_no_training_target_has_are_named() -> None:
    lines = ["ab c"] * 5
    tokenizer = TranslationTokenizer.train(lines, lines, TranslationTokenizerSettings(vocab_size=9))
    assert unwritable_characters(tokenizer.target, "a bc  ab") == []
    assert unwritable_characters(tokenizer.target, "La Lb dé") == ["L", "d", "é"]
    report = check_writable(tokenizer.target, ["a", "La", "b"])
    assert (report.not_writable, [one["line"] for one in report.examples]) == (1, ["La"])
    spelled = TranslationTokenizer.train(lines, lines, TranslationTokenizerSettings(vocab_size=265, byte_fallback=True))
    for line in itertools.chain(NASTY, drawn(200, 2), ["a\x00b"]):
        assert unwritable_characters(spelled.target, line) == [], line
