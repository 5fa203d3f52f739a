"""SentencePiece vocabularies: exact size, the same every time, errors a person can act on."""

import hashlib
import math
import random
import subprocess
import sys
import threading

import pytest

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import (
    SentencePieceTokenizer,
    Tokenizer,
    TranslationTokenizer,
    TranslationTokenizerSettings,
)
from transformer_zoo.tokenizers.sentence_pieces import PieceSampler

WORDS = [
    stem + end
    for stem in ("hund", "katz", "straß", "brück", "groß", "klein", "lauf", "schlaf", "schnell", "fünf")
    for end in ("e", "en", "er", "es", "ung", "chen", "heit")
]


def sentences(n: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 11))) for _ in range(n)]


LINES = sentences(499)
FILES = ["source.sentencepiece.model", "target.sentencepiece.model", "tokenizer_kind.json"]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> SentencePieceTokenizer:
    return SentencePieceTokenizer.train(LINES, vocab_size=67, model_type=request.param)


def test_special_ids_and_size(tokenizer):
    assert tokenizer.vocab_size == 67
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2, 3)


def test_text_comes_back_and_ids_hold_no_special_ones(tokenizer):
    for line in LINES:
        ids = tokenizer.encode(line)
        assert tokenizer.decode(ids) == line
        assert all(4 <= i < 67 for i in ids)
        assert tokenizer.decode([2, *ids, 3, 0, 0]) == line


def test_batch_is_line_by_line_encoding(tokenizer):
    assert tokenizer.encode_batch(LINES) == [tokenizer.encode(line) for line in LINES]
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.encode("") == []


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_training_twice_gives_the_same_bytes(model_type):
    first, second = (SentencePieceTokenizer.train(LINES, vocab_size=61, model_type=model_type) for _ in range(2))
    assert first.model == second.model


def test_drawn_training_lines_follow_the_seed():
    lines = sentences(499) + [f"selten{i}" for i in range(499)]
    one, again, other = (
        SentencePieceTokenizer.train(lines, vocab_size=71, training_lines=53, seed=seed).model for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_sampled_pieces_vary_with_the_seed_only_and_spell_the_same_text(tokenizer):
    def draw(seed: int) -> list[list[int]]:
        return tokenizer.draw(LINES, alpha=0.3, seed=seed)

    first = draw(5)
    assert draw(6) != first
    assert draw(5) == first
    assert first != tokenizer.encode_batch(LINES)
    assert [tokenizer.decode(ids) for ids in first] == LINES
    elsewhere: list[list[list[int]]] = []
    thread = threading.Thread(target=lambda: elsewhere.append(draw(5)))
    thread.start()
    thread.join()
    assert elsewhere == [first]


def test_drawing_without_chance_is_plain_encoding(tokenizer):
    odd = ["große 日本 x日本y 🙂katzen", "", "▁▁ a▁", "a\x00b"]
    sampler = PieceSampler(tokenizer._model)
    alpha = 1e4 if sampler.is_unigram else 1e-9  # the best alone; no merge left out
    assert sampler.encode([*LINES, *odd], alpha=alpha, seed=0) == tokenizer.encode_batch([*LINES, *odd])


def test_bpe_dropout_leaves_out_every_merge_at_one():
    tokenizer = SentencePieceTokenizer.train(LINES, vocab_size=67)
    ids = tokenizer.draw(["große"] * 3, alpha=1.0, seed=0)
    assert [tokenizer._model.id_to_piece(i) for i in ids[2]] == ["▁", "g", "r", "o", "ß", "e"]


def test_bpe_leaves_out_a_merge_with_probability_alpha():
    tokenizer = SentencePieceTokenizer.train(["ab"], vocab_size=8)  # 4 special, "▁", "a", "b" and one merge
    rows = [tuple(tokenizer.draw(["ab"], alpha=0.3, seed=seed)[0]) for seed in range(997)]
    whole = tuple(tokenizer.encode("ab"))
    assert len(whole) == 2
    assert 0.65 < rows.count(whole) / 997 < 0.75  # 0.7, and a standard deviation of 0.015


def test_unigram_draws_in_proportion_to_probability_to_the_alpha():
    tokenizer = SentencePieceTokenizer.train(LINES, vocab_size=67, model_type="unigram")
    pieces, alpha = tokenizer._model, 0.4
    segmentations = [tuple(ids) for ids in pieces.nbest_encode("schnellen", nbest_size=499)]
    assert 2 < len(segmentations) <= 32
    weights = [math.exp(alpha * sum(map(pieces.get_score, ids))) for ids in segmentations]
    rows = [tuple(ids) for ids in tokenizer.draw(["schnellen"] * 4999, alpha=alpha, seed=1)]
    for segmentation, weight in zip(segmentations, weights, strict=True):
        p = weight / sum(weights)
        assert abs(rows.count(segmentation) / 4999 - p) < 4 * (p * (1 - p) / 4999) ** 0.5 + 1e-3


def test_another_process_draws_the_same(tokenizer, tmp_path, root):
    tokenizer.save(tmp_path)
    program = (
        "import hashlib, sys\n"
        "from transformer_zoo.tokenizers import Tokenizer\n"
        "t = Tokenizer.load(sys.argv[1])\n"
        "rows = t.draw(sys.stdin.read().split('\\n'), alpha=0.3, seed=5)\n"
        "print(hashlib.sha256(repr(rows).encode()).hexdigest())\n"
    )
    found = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program, str(tmp_path)],
        input="\n".join(LINES),
        capture_output=True,
        encoding="utf-8",
        check=True,
        cwd=root,
    ).stdout.strip()
    rows = tokenizer.draw(LINES, alpha=0.3, seed=5)
    assert found == hashlib.sha256(repr(rows).encode()).hexdigest()


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\tb", "x\x00y", "a ▁ b", "▁▁", "\u2028", "\x0b\x85", "\ufeffx", "🙂", "日本", " "]
)
def test_odd_characters_train_encode_and_decode(text, tokenizer):
    assert isinstance(tokenizer.decode(tokenizer.encode(text)), str)
    trained = SentencePieceTokenizer.train([*LINES, text], vocab_size=71)
    assert isinstance(trained.decode(trained.encode(text)), str)


def test_a_line_separator_is_a_space_and_an_unknown_character_is_unk(tokenizer):
    assert tokenizer.encode("große\u2028hunde\n") == tokenizer.encode("große hunde")
    assert tokenizer.unk_id in tokenizer.encode("hunde 日")


def test_byte_fallback_leaves_nothing_unknown():
    tokenizer = SentencePieceTokenizer.train(LINES, vocab_size=331, byte_fallback=True)
    assert tokenizer.decode(tokenizer.encode("hunde 日本🙂")) == "hunde 日本🙂"


def test_identity_keeps_what_nfkc_folds():
    lines = [*LINES, "ﬁn ﬁn"]  # a ligature
    folded = SentencePieceTokenizer.train(lines, vocab_size=71)
    kept = SentencePieceTokenizer.train(lines, vocab_size=71, normalization="identity")
    assert folded.decode(folded.encode("ﬁn")) == "fin"
    assert kept.decode(kept.encode("ﬁn")) == "ﬁn"


def test_a_very_long_line_is_trained_on():
    tokenizer = SentencePieceTokenizer.train(["yz " * 5003, *LINES], vocab_size=71)
    assert tokenizer.unk_id not in tokenizer.encode("yz")


def test_too_large_a_vocabulary_names_the_largest_that_works():
    with pytest.raises(UserError, match=r"^vocab_size: 9973 is more .* largest that works is \d+$") as caught:
        SentencePieceTokenizer.train(LINES, vocab_size=9973)
    largest = int(str(caught.value).split()[-1])
    assert SentencePieceTokenizer.train(LINES, vocab_size=largest).vocab_size == largest


def test_too_small_a_vocabulary_names_what_the_characters_need():
    with pytest.raises(UserError, match=r"^vocab_size: 11 is too small, .* need \d+;") as caught:
        SentencePieceTokenizer.train(LINES, vocab_size=11)
    needed = int(str(caught.value).split(";")[0].split()[-1])
    assert SentencePieceTokenizer.train(LINES, vocab_size=needed).vocab_size == needed


@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_no_text_to_train_on(lines):
    with pytest.raises(UserError, match="no text"):
        SentencePieceTokenizer.train(lines, vocab_size=31)


def test_other_training_mistakes_are_one_line():
    with pytest.raises(UserError, match=r"^vocab_size: 0 leaves no room"):
        SentencePieceTokenizer.train(LINES, vocab_size=0)
    with pytest.raises(UserError, match=r"^character_coverage: "):
        SentencePieceTokenizer.train(LINES, vocab_size=67, character_coverage=2.0)
    with pytest.raises(UserError, match=r"text 2 of 2 is not valid Unicode"):
        SentencePieceTokenizer.train(["a", "\ud800"], vocab_size=67)


def test_an_error_while_reading_lines_is_not_disguised():
    def lines():
        yield "a"
        raise UserError("x.txt:2: not UTF-8")

    with pytest.raises(UserError, match=r"^x\.txt:2: not UTF-8$"):
        SentencePieceTokenizer.train(lines(), vocab_size=67)


def test_a_lone_surrogate_is_a_user_error(tokenizer):
    with pytest.raises(UserError, match="text 2 of 3 is not valid Unicode"):
        tokenizer.encode_batch(["a", "b\ud800", "c"])


def test_training_says_nothing(capfd):
    SentencePieceTokenizer.train(LINES, vocab_size=67)
    assert capfd.readouterr() == ("", "")


def test_save_and_load(tokenizer, tmp_path):
    SentencePieceTokenizer.train(LINES, vocab_size=71).save(tmp_path)
    tokenizer.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sentencepiece.model", "tokenizer_kind.json"]
    loaded = Tokenizer.load(tmp_path)
    assert isinstance(loaded, SentencePieceTokenizer)
    assert loaded.model == tokenizer.model
    assert loaded.encode(LINES[0]) == tokenizer.encode(LINES[0])


def test_a_failed_save_leaves_the_old_file_and_no_litter(tokenizer, tmp_path, monkeypatch):
    old = SentencePieceTokenizer.train(LINES, vocab_size=71)
    old.save(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        tokenizer.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sentencepiece.model", "tokenizer_kind.json"]
    assert Tokenizer.load(tmp_path).fingerprint == old.fingerprint


def test_what_is_no_model_is_refused():
    for content in (b"garbage", b""):
        with pytest.raises(UserError, match=r"sentencepiece\.model: not a SentencePiece"):
            SentencePieceTokenizer(content)


def test_the_sides_of_a_joint_tokenizer_have_the_same_pieces(tmp_path):
    settings = TranslationTokenizerSettings(vocab_size=67)
    tokenizer = TranslationTokenizer.train(LINES[:251], LINES[251:], settings)
    assert tokenizer.joint
    assert tokenizer.source.pieces == tokenizer.target.pieces
    tokenizer.save(tmp_path / "run" / "tokenizer")
    names = sorted(file.name for file in (tmp_path / "run" / "tokenizer").iterdir())
    assert names == FILES
    loaded = TranslationTokenizer.load(tmp_path / "run" / "tokenizer")
    assert loaded.joint
    assert (loaded.source.model, loaded.target.model) == (tokenizer.source.model, tokenizer.target.model)


def test_separate_tokenizers_know_their_side_and_replace_a_joint_one(tmp_path):
    english = [line.upper() for line in LINES]
    TranslationTokenizer.train(LINES, LINES, TranslationTokenizerSettings(vocab_size=67)).save(tmp_path)
    settings = TranslationTokenizerSettings(joint=False, vocab_size=59, target_vocab_size=61)
    tokenizer = TranslationTokenizer.train(english, LINES, settings)
    tokenizer.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == FILES
    loaded = TranslationTokenizer.load(tmp_path)
    assert not loaded.joint
    assert (loaded.source.vocab_size, loaded.target.vocab_size) == (59, 61)
    assert loaded.source.unk_id not in loaded.source.encode("HUNDE")
    assert loaded.target.unk_id in loaded.target.encode("HUNDE")


def test_translation_tokenizer_mistakes(tmp_path):
    with pytest.raises(UserError, match="target_vocab_size"):
        TranslationTokenizer.train(LINES, LINES, TranslationTokenizerSettings(vocab_size=67, target_vocab_size=61))
    with pytest.raises(UserError, match="no tokenizer here"):
        TranslationTokenizer.load(tmp_path)
