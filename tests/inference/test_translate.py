"""Lines in, lines out: in order, none lost, none cut, whatever their batches."""

import itertools
import math
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.flat import beam_search, translate, translate_n_best
from transformer_zoo import UserError, inference
from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.inference import TargetScore, finder, generate_stream, perplexity, score
from transformer_zoo.inference.splitting import Cutter, Parts, sentences
from transformer_zoo.models import EncoderDecoder

FIRST = 4  # pad, unk, bos, eos come before the letters
LETTERS = "abcdefghijklmnopqrstuvwxyz .!"


class Letters:
    """A tokenizer with a token for each letter, which drops space at both ends as SentencePiece does."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[FIRST + LETTERS.index(letter) for letter in text.strip()] for text in texts]

    def tag_of(self, text: str) -> str:
        return ""

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("?" if i < FIRST else LETTERS[i - FIRST] for i in ids)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return self.decode(ids).encode()


class Pair:
    source = target = Letters()


@pytest.fixture(scope="module")
def model() -> EncoderDecoder:
    torch.manual_seed(0)
    config = EncoderDecoderConfig.of(
        vocab_size=FIRST + len(LETTERS),
        d_model=16,
        n_heads=2,
        d_ff=24,
        n_encoder_layers=1,
        n_decoder_layers=1,
        logit_bias=True,
    )
    model = EncoderDecoder(config).eval()
    with torch.no_grad():
        model.head_weight.mul_(1.7)
    assert model.logit_bias is not None
    model.logit_bias[config.eos_id] = 2.0  # where short translations are preferred, some end
    return model


LINES = ["a small house", "", "x", "the big cat sat.", "   ", "hello", "yes!", "abcabcabcabcabc", "hello"]


def alone(model: EncoderDecoder, line: str, **options: object) -> str:
    [ids] = Pair.source.encode_batch([line])
    [[best]] = beam_search(model, torch.tensor([[*ids, model.config.eos_id]]), max_extra=6, **options)
    return Pair.target.decode(best.tokens)


@pytest.mark.parametrize("window", [1, 2, 4, 100])
@pytest.mark.parametrize("batch_tokens", [1, 150, None])
def test_lines_come_back_in_order_as_if_alone(model: EncoderDecoder, window: int, batch_tokens: int | None) -> None:
    found = list(translate(model, Pair(), LINES, beam=3, max_extra=6, window=window, batch_tokens=batch_tokens))
    assert found == [alone(model, line, beam=3) if line.strip() else "" for line in LINES]


def test_a_line_of_space_is_empty_for_a_tokenizer_that_has_tokens_for_space(model: EncoderDecoder) -> None:
    class Spaces(Letters):
        def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
            return [[FIRST + LETTERS.index(letter) for letter in text] for text in texts]

    class Spaced(Pair):
        source = Spaces()

    assert list(translate(model, Spaced(), ["   ", "", " "])) == ["", "", ""]


def test_nothing_in_nothing_out(model: EncoderDecoder) -> None:
    assert list(translate(model, Pair(), [])) == []
    assert list(translate(model, Pair(), ["", " ", "\u200b", "\ufeff\u200e"])) == ["", "", "", ""]


def test_a_window_is_answered_before_the_next_is_read(model: EncoderDecoder) -> None:
    read = []

    def lines() -> Iterator[str]:
        for line in LINES:
            read.append(line)
            yield line

    found = translate(model, Pair(), lines(), window=2, max_extra=6)
    next(found)
    assert len(read) == 2
    next(found), next(found)
    assert len(read) == 4


def test_a_line_is_given_as_soon_as_it_and_those_before_it_are_done(
    model: EncoderDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []

    def search(model: EncoderDecoder, sources: list[list[int]], *words: Any, **options: Any) -> object:
        batches.append(len(sources))
        return generate_stream(model, sources, *words, **options)

    monkeypatch.setattr(finder, "generate_stream", search)
    found = translate(model, Pair(), ["x", "yes", "", "hello", "no"], batch_tokens=1, beam=1, max_extra=6)
    done = [len(batches) for _ in found]
    # Batches by length: x, no, yes, hello.
    assert done == [1, 3, 3, 4, 4]


def test_line_breaks_in_a_translation_become_spaces(model: EncoderDecoder) -> None:
    class Breaks(Letters):
        def decode(self, ids: Sequence[int]) -> str:
            return "a\nb\r\nc\u2028d"

    class Broken(Pair):
        target = Breaks()

    assert list(translate(model, Broken(), ["x"], beam=1)) == ["a b c d"]


def test_a_translation_at_the_length_limit_is_marked(model: EncoderDecoder) -> None:
    for how in ({"max_extra": 1}, {"max_extra": 6}, {"max_extra": 50, "length_penalty": 0}):
        found = [best for [best] in translate_n_best(model, Pair(), LINES, **how)]
        limits = [len(line.strip()) + 1 + how["max_extra"] for line in LINES]
        assert [best.is_cut for best in found] == [
            bool(line.strip()) and len(best.text) == limit
            for line, best, limit in zip(LINES, found, limits, strict=True)
        ]
        assert any(best.is_cut for best in found)
    assert any(best.text and not best.is_cut for best in found)


@pytest.mark.parametrize("beam", [1, 3])
def test_stop_strings_of_a_configuration_end_a_translation_before_them(model: EncoderDecoder, beam: int) -> None:
    how: dict[str, Any] = {"beam": beam, "max_extra": 6}
    lines = ["a small house", "the big cat sat."]
    whole = [*translate(model, Pair(), lines, **how)]
    stops = tuple({text[2:4] for text in whole})
    stopping = EncoderDecoder(model.config.changed(**{"rules.stop_strings": stops})).eval()
    stopping.load_state_dict(model.state_dict())
    found = [*translate_n_best(stopping, Pair(), lines, **how)]
    assert not any(stop in best.text or best.is_cut for [best, *_] in found for stop in stops)
    if beam == 1:
        first = [min(text.find(stop) for stop in stops if stop in text) for text in whole]
        assert [best.text for [best] in found] == [text[:n] for text, n in zip(whole, first, strict=True)]


def test_tokens_that_are_never_written(model: EncoderDecoder) -> None:
    often = max(LETTERS, key="".join(translate(model, Pair(), LINES)).count)
    never = [model.config.pad_id, model.config.bos_id, FIRST + LETTERS.index(often)]
    assert often not in "".join(translate(model, Pair(), LINES, never=never))


def test_learned_positions_bound_every_piece(model: EncoderDecoder) -> None:
    learned = EncoderDecoder(model.config.changed(positions="learned", max_seq_len=8)).eval()
    with pytest.warns(UserWarning, match=r"much longer than max_source_tokens \(8\); translated in pieces"):
        assert len(list(translate(learned, Pair(), ["a cat and a dog"], max_source_tokens=99))) == 1


def test_n_best_are_sorted_by_what_score_gives_them(model: EncoderDecoder) -> None:
    how = {"n_best": 3, "beam": 4, "never": [0, 1, 2]}
    for line, found in zip(LINES, translate_n_best(model, Pair(), LINES, **how), strict=True):
        assert len(found) == (3 if line.strip() else 1)
        assert [t.log_prob for t in found] == sorted((t.log_prob for t in found), reverse=True)
        assert all(t.search_log_prob <= t.search_score <= 0 for t in found)
        if line.strip():
            scores = score(model, Pair(), [line] * 3, [t.text for t in found])
            assert [t.log_prob for t in found] == pytest.approx([s.log_prob for s in scores], abs=1e-4)
            assert [t.log_prob for t in found if not t.is_cut] == pytest.approx(
                [t.search_log_prob for t in found if not t.is_cut], abs=1e-3
            )


class Spellings(Letters):
    """Writes half of its tokens as others are written, and some not at all."""

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("" if i % 5 == 0 else LETTERS[(i - FIRST) // 2] for i in ids if i >= FIRST)


class Ambiguous(Pair):
    target = Spellings()


@pytest.mark.parametrize("n_best", [2, 5, 17])
@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("batch_tokens", [1, None])
def test_n_best_are_as_many_different_texts(
    model: EncoderDecoder, batch_tokens: int | None, beam: int, n_best: int
) -> None:
    how = {"beam": beam, "batch_tokens": batch_tokens, "max_extra": 6}
    found = list(translate_n_best(model, Ambiguous(), LINES, n_best=n_best, **how))
    for line, translations in zip(LINES, found, strict=True):
        texts = {" ".join(one.text.split()) for one in translations}
        assert len(texts) == len(translations) == (n_best if line.strip() else 1)


def test_where_there_are_no_more_translations_fewer_come_and_it_is_said(model: EncoderDecoder) -> None:
    never = [i for i in range(FIRST + len(LETTERS)) if i not in (model.config.eos_id, FIRST, FIRST + 1)]
    with pytest.warns(UserWarning, match=r"2 of 3 lines \(1, 3\): fewer than 99 different translations; more were not"):
        found = list(translate_n_best(model, Pair(), ["x", "", "y"], n_best=99, max_extra=1, never=never))
    every = sorted("".join(letters) for n in range(4) for letters in itertools.product("ab", repeat=n))
    assert [sorted(t.text for t in translations) for translations in found] == [every, [""], every]


def test_a_prefix_starts_every_translation(model: EncoderDecoder) -> None:
    found = translate(model, Pair(), LINES, prefix="ab", beam=2, max_extra=6)
    assert [text[:2] for text in found] == ["ab" if line.strip() else "" for line in LINES]


def test_an_overlong_line_is_split_and_named(model: EncoderDecoder) -> None:
    line = "one two three. four five. six seven eight nine."
    unknown = "cut as English is, since the source language is not known"
    said = rf"^line 2: much longer than max_source_tokens \(20\); translated in pieces, {unknown}$"
    with pytest.warns(UserWarning, match=said):
        found = list(translate(model, Pair(), ["x", line, "y"], beam=2, max_extra=6, max_source_tokens=20))
    pieces = ["one two three.", "four five.", "six seven eight nine."]
    assert found == [
        alone(model, "x", beam=2),
        " ".join(alone(model, piece, beam=2) for piece in pieces),
        alone(model, "y", beam=2),
    ]


@pytest.mark.parametrize("n", [2, 19, 20, 29, 30, 31, 500])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_no_sentence_is_cut_that_the_model_holds(
    model: EncoderDecoder, positions: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence has n tokens, eos included; the longest in training has 20, and the model holds 64."""
    config = model.config.changed(positions=positions, max_seq_len=64)
    asked: list[list[int]] = []

    def search(model: EncoderDecoder, sources: list[list[int]], *words: Any, **options: Any) -> object:
        asked.extend(sources)
        return generate_stream(model, sources, *words, **options)

    monkeypatch.setattr(finder, "generate_stream", search)
    holding = EncoderDecoder(config).eval()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        line = ("a word " * n)[: n - 2] + "x"
        list(translate(holding, Pair(), [line], beam=1, max_source_tokens=20, language="en"))
    said = [str(one.message) for one in told if "much longer" in str(one.message)]
    how = "as a whole, which is one sentence"
    if n > 64:
        how = "in pieces, also of sentences, which are longer than the model takes"
    assert len(asked) == 1 if n <= 64 else len(asked) > 1
    assert said == ([f"line 1: much longer than max_source_tokens (20); translated {how}"] if n > 30 else [])


def cut(text: str, longest: int, held: int, language: str | None = "en") -> Parts:
    """In parts of so many characters."""
    return Cutter(trained=longest, holds=max(longest, held), language=language).cut(text, len)


@pytest.mark.parametrize(
    ("text", "longest", "held", "parts"),
    [
        ("Short.", 10, 99, ["Short."]),
        ("One. Two. Three. Four.", 13, 99, ["One. Two.", "Three. Four."]),
        ('He said "no." She left.', 14, 99, ['He said "no."', "She left."]),
        ("Old J. Doe left. No!", 17, 99, ["Old J. Doe left.", "No!"]),
        ("Some, e.g. two cats. No.", 22, 99, ["Some, e.g. two cats.", "No."]),
        ("It cost 3.50 in all. No.", 22, 99, ["It cost 3.50 in all.", "No."]),
        ("aaa bbb ccc ddd", 8, 99, ["aaa bbb ccc ddd"]),
        ("aaa bbb ccc ddd. two.", 8, 99, ["aaa bbb ccc ddd.", "two."]),
        ("aaa bbb ccc ddd", 8, 8, ["aaa bbb", "ccc ddd"]),
        ("aaa bbb ccc ddd", 4, 8, ["aaa bbb", "ccc ddd"]),
        ("abcdefgh", 3, 3, ["ab", "cd", "ef", "gh"]),
        ("今天好。明天坏。", 5, 99, ["今天好。", "明天坏。"]),
        ("他说：“好。”明天坏。", 7, 99, ["他说：“好。”", "明天坏。"]),
    ],
)
def test_texts_are_cut_where_it_hurts_least(text: str, longest: int, held: int, parts: list[str]) -> None:
    assert cut(text, longest, held).texts == parts


@pytest.mark.parametrize(
    ("language", "text", "found"),
    [
        ("de", "Es kostet ca. 5 Euro, bzw. 6. Nun ja.", ["Es kostet ca. 5 Euro, bzw. 6. ", "Nun ja."]),
        ("German", "Am 3. Oktober z.B. ist frei. Ja!", ["Am 3. Oktober z.B. ist frei. ", "Ja!"]),
        ("deu_Latn", "Am 3. Oktober ist frei. Ja!", ["Am 3. Oktober ist frei. ", "Ja!"]),
        ("hin_Deva", "वह आया। वह गया।", ["वह आया। ", "वह गया।"]),
        ("zho_Hans", "今天好。明天坏？", ["今天好。", "明天坏？"]),
        (None, "It is. It was.", ["It is. ", "It was."]),
        ("a language that nobody knows", "It is. It was.", ["It is. ", "It was."]),
    ],
)
def test_sentences_end_by_the_rules_of_their_language(language: str | None, text: str, found: list[str]) -> None:
    assert [*sentences(text, language)] == found
    assert [*sentences(text.lower(), language)] == [one.lower() for one in found]


def test_sentences_lose_nothing_whatever_the_text() -> None:
    draw, signs = random.Random(0), "aZß é.!?。”\"'»)(3 ,;:-…\u00a0\u3000\t।؟한中ŉ😀\u0301"
    for n in range(2000):
        text = "".join(draw.choices(signs, k=n % 60))
        for language in (None, "de", "zh", "fr", "my", "hy"):
            assert "".join(sentences(text, language)) == text, text


def test_cutting_loses_nothing_but_space() -> None:
    text = "Dr. No. A b c! dddddddddddddddddddd. " * 20
    for longest in range(1, 30):
        parts = cut(text.strip(), longest, longest).texts
        assert all(0 < len(part) <= longest for part in parts)
        assert "".join("".join(parts).split()) == "".join(text.split())


def test_what_the_length_limit_cuts_is_counted(model: EncoderDecoder) -> None:
    with pytest.warns(UserWarning, match="length limit") as told:
        list(translate(model, Pair(), LINES, max_extra=1, name="test"))
    limit = "max_extra (1 tokens more than the source has) raises it"
    wanted = (
        f"test: 7 of 9 lines (1, 3, 4, 6, 7, ...): translated up to the length limit, perhaps not to the end; {limit}"
    )
    assert [str(one.message) for one in told] == [wanted]
    with pytest.warns(UserWarning, match="length limit") as told:  # somebody who waits for each line
        list(translate(model, Pair(), LINES, max_extra=1, window=1))
    assert [str(one.message).partition(":")[0] for one in told] == [f"line {n}" for n in (1, 3, 4, 6, 7, 8, 9)]


def test_a_prefix_that_the_vocabulary_cannot_say_is_refused(model: EncoderDecoder) -> None:
    class Unknowing(Letters):
        def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
            known = [[letter if letter in LETTERS else "?" for letter in text.strip()] for text in texts]
            return [[1 if letter == "?" else FIRST + LETTERS.index(letter) for letter in text] for text in known]

    class Knowing(Pair):
        target = Unknowing()

    with pytest.raises(UserError, match="prefix 'Der Laden': the model's vocabulary has no 'D' 'L'"):
        translate(model, Knowing(), LINES, prefix="Der Laden")


def test_the_model_is_left_in_the_mode_it_was_in(model: EncoderDecoder) -> None:
    model.train()
    try:
        found = list(translate(model, Pair(), LINES, max_extra=6))
        assert model.training
    finally:
        model.eval()
    assert found == list(translate(model, Pair(), LINES, max_extra=6))


def test_bfloat16_is_close_enough_to_translate_with(model: EncoderDecoder) -> None:
    found = list(translate_n_best(model, Pair(), LINES, dtype=torch.bfloat16, beam=1))
    exact = list(translate_n_best(model, Pair(), LINES, beam=1))
    same = [a for [a], [b] in zip(found, exact, strict=True) if a.text == b.text]
    assert len(same) >= 5


@pytest.mark.parametrize(
    "options", [{"batch_tokens": 0}, {"window": 0}, {"n_best": 0}, {"n_best": 1025}, {"max_source_tokens": 0}]
)
def test_arguments_out_of_range(model: EncoderDecoder, options: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(reversed(options))):
        list(translate_n_best(model, Pair(), LINES, **options))


@pytest.mark.parametrize("batch_tokens", [1, 60, 8192])
def test_scores_of_targets_are_those_of_the_search(model: EncoderDecoder, batch_tokens: int) -> None:
    sources = [line for line in LINES if line.strip()]
    found = [best[0] for best in translate_n_best(model, Pair(), sources, length_penalty=0)]
    assert {t.is_cut for t in found} == {False, True}
    scores = score(model, Pair(), sources, [t.text for t in found], batch_tokens=batch_tokens)
    searched = [sum(s.token_log_probs[: len(t.text) + 1 - t.is_cut]) for s, t in zip(scores, found, strict=True)]
    assert searched == pytest.approx([t.search_log_prob for t in found], abs=1e-3)  # what was cut has no end
    assert [s.log_prob for s in scores] == pytest.approx([t.log_prob for t in found], abs=1e-3)
    assert [len(s.token_log_probs) for s in scores] == [len(t.text) + 1 for t in found]
    n = sum(len(t.text) + 1 for t in found)
    assert perplexity(scores) == pytest.approx(math.exp(-sum(s.log_prob for s in scores) / n), rel=1e-4)
    assert perplexity([TargetScore([-800.0])]) == math.inf
    with pytest.raises(UserError, match="no targets"):
        perplexity([])


def test_scoring_refuses_what_it_cannot_hold(model: EncoderDecoder) -> None:
    with pytest.raises(UserError, match="1 sources and 2 targets"):
        score(model, Pair(), ["a"], ["a", "b"])
    learned = EncoderDecoder(model.config.changed(positions="learned", max_seq_len=8))
    with pytest.raises(UserError, match="line 2: 9 tokens"):
        score(learned, Pair(), ["a", "b"], ["a", "b" * 8])


TAGS = {"source": FIRST + LETTERS.index("z"), "target": FIRST + LETTERS.index("y")}


class Tagged(Letters):
    """Every text has a tag at its start, as those of multilingual models have."""

    def __init__(self, tag: int) -> None:
        self.tag = tag

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self.tag, *ids] for ids in super().encode_batch(texts)]

    def decode(self, ids: Sequence[int]) -> str:
        return super().decode([i for i in ids if i != self.tag])


class TaggedPair:
    source, target = Tagged(TAGS["source"]), Tagged(TAGS["target"])


def test_tags_begin_every_source_and_every_translation_and_the_configs_token_ends_a_source(
    model: EncoderDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[list[int]], list[list[int]]]] = []

    def search(model: EncoderDecoder, sources: list[list[int]], *words: Any, **options: Any) -> object:
        asked.append((sources, options["prefix"]))
        return inference.beam_search(model, sources, *words, **options)

    monkeypatch.setattr(finder, "beam_search", search)
    ending = replace(model.config, source_end_id=1)
    monkeypatch.setattr(model, "config", ending)
    how = {"beam": 2, "max_extra": 4, "max_source_tokens": 12, "prefix": "ab", "batch_tokens": 1}
    with pytest.warns(UserWarning, match="line 3: much longer"):
        found = list(translate(model, TaggedPair(), ["cat", "", "a small. cat and d"], **how))
    assert found[1] == ""
    assert all("y" not in line for line in found)
    starts = [(source[0][0], source[0][-1], prefix) for source, prefix in asked]
    tag, ab = TAGS["target"], [FIRST, FIRST + 1]
    assert {start[:2] for start in starts} == {(TAGS["source"], 1)}
    assert [prefix for _, _, [prefix] in starts].count([tag, *ab]) == 2
    assert {tuple(prefix) for _, _, [prefix] in starts} == {(tag, *ab), (tag,)}
    [scored] = score(model, TaggedPair(), ["cat"], ["do"])
    ids = torch.tensor([[TAGS["source"], *Letters().encode_batch(["cat"])[0], 1]])
    target = torch.tensor([[model.config.bos_id, tag, *Letters().encode_batch(["do"])[0]]])
    with torch.no_grad():
        log_probs = model(ids, target)[0].log_softmax(-1)
    wanted = [*target[0, 1:].tolist(), model.config.eos_id]
    given, *chosen = [log_probs[t, i].item() for t, i in enumerate(wanted)]
    assert given != 0
    assert scored.token_log_probs == pytest.approx(chosen, abs=1e-5)  # the tag is given, as in a search


def test_every_part_of_a_long_line_has_the_tag_that_the_line_brings_along(
    model: EncoderDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []

    def search(model: EncoderDecoder, sources: list[list[int]], *words: Any, **options: Any) -> object:
        asked.extend(sources)
        return inference.beam_search(model, sources, *words, **options)

    class Marked(Letters):
        def tag_of(self, text: str) -> str:
            return text[:1] if text.startswith("!") else ""

    class MarkedPair(Pair):
        source = Marked()

    monkeypatch.setattr(finder, "beam_search", search)
    how = {"beam": 2, "max_extra": 4, "max_source_tokens": 10, "batch_tokens": 1}
    with pytest.warns(UserWarning, match="line 1: much longer"):
        list(translate(model, MarkedPair(), ["! a small. cat and d"], **how))
    texts = sorted(MarkedPair.source.decode(ids[:-1]) for ids in asked)
    assert texts == ["!a small.", "!cat and d"]
