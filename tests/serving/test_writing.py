"""Texts that are written side by side, whenever each began: what each gets is what it would get alone."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from tests.models.helpers import GPT_VARIANTS, VARIANTS, small_gpt, small_model
from transformer_zoo.config import Sampling
from transformer_zoo.inference import generate_stream, quantize
from transformer_zoo.inference.codec import codec_of
from transformer_zoo.models import SharedCache
from transformer_zoo.serving import writing
from transformer_zoo.serving.prompts import new_row
from transformer_zoo.serving.writing import Row, Writing
from transformer_zoo.tokenizers import ByteTokenizer, TranslationTokenizer, TranslationTokenizerSettings

HOWS = [
    Sampling(temperature=0),
    Sampling(),
    Sampling(top_k=9, top_p=0.9, repetition_penalty=1.2),
    Sampling(temperature=0.7, no_repeat_ngram_size=2, min_new_tokens=5),
]
BYTES = {"vocab_size": 257, "max_seq_len": 48, "eos_id": 256}


@pytest.fixture(scope="module")
def pair() -> TranslationTokenizer:
    return TranslationTokenizer.train(["ja"], ["yes"], TranslationTokenizerSettings(kind="bytes"))


def rows_of(model: Any, tokenizer: Any, n: int, dice: random.Random) -> Iterator[Row]:
    """Rows of all lengths, each with settings of its own."""
    for seed in range(n):
        lengths = [n for n in (1, 2, 5, 11, 20) if n < model.facts.context]
        prompt = [dice.randrange(4, 250) for _ in range(dice.choice(lengths))]
        yield new_row(
            model, codec_of(model, tokenizer), prompt, dice.choice(HOWS), most=model.facts.context,
            max_new_tokens=dice.choice((1, 2, 7, 25)), stops=(), seed=seed, never=None, ignore_eos=dice.random() < 0.5,
        )  # fmt: skip


def alone(model: Any, tokenizer: Any, row: Row, seed: int) -> tuple[list[int], str | None]:
    """What `generate_stream` gives for the same."""
    codec = codec_of(model, tokenizer)
    stream = [*generate_stream(
        model, [row.given], row.chooser.how, max_new_tokens=row.limit - len(model.opening(row.given)), seed=seed,
        never=None if model.facts.has_source else codec.target.special_ids, ignore_eos=not row.ends,
        prefix=[codec.start] if codec.start else None,
    )]  # fmt: skip
    return [new.token for new in stream if new.end != "eos"], stream[-1].end


def write_all(model: Any, rows: Sequence[Row], dice: random.Random, *, most: int = 4) -> Writing:
    """Rows that come at steps of their own."""
    work, coming = Writing(model, most), list(rows)
    with torch.inference_mode():
        while coming or work.due() is not None:
            while coming and dice.random() < 0.4:
                work.waiting.append(coming.pop(0))
            work.advance()
            assert len(work.rows) <= most
    return work


def check_alone(model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, *, n: int = 24) -> None:
    monkeypatch.setattr(writing, "READ_AT_ONCE", 7)  # most prompts are read in pieces
    dice = random.Random(1)
    rows = [*rows_of(model, tokenizer, n, dice)]
    write_all(model, rows, dice)
    for seed, row in enumerate(rows):
        found = row.request.result(0)
        assert (found.tokens, found.end) == alone(model, tokenizer, row, seed), seed
        assert row.request.usage.completion_tokens == len(found.tokens)
        assert "".join(event.text for event in row.request.events(0)) == found.text


@pytest.mark.parametrize("changes", GPT_VARIANTS.values(), ids=GPT_VARIANTS.keys())
def test_what_a_prompt_gets_does_not_depend_on_the_others(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_alone(small_gpt(**{**changes, **BYTES}), ByteTokenizer(), monkeypatch)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_what_a_source_gets_does_not_depend_on_the_others(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, pair: TranslationTokenizer
) -> None:
    sizes = {name: 261 for name in ("vocab_size", "target_vocab_size") if name in changes or name == "vocab_size"}
    check_alone(small_model(**{"max_seq_len": 64, **changes, **sizes}), pair, monkeypatch, n=20)


def test_rows_that_are_taken_back_leave_at_once_and_change_nothing_for_the_others() -> None:
    model, dice = small_gpt(**BYTES), random.Random(2)
    rows, work = [*rows_of(model, ByteTokenizer(), 30, dice)], Writing(model, 5)
    coming, taken_back = list(rows), set[int]()
    with torch.inference_mode():
        while coming or work.due() is not None:
            if coming:
                work.waiting.append(coming.pop(0))
            if dice.random() < 0.3:
                one = dice.randrange(30)
                if rows[one].request.cancel():
                    taken_back.add(one)
            work.advance()
            assert not any(row.request.cancelled() for row in work.rows)
    assert 5 < len(taken_back) < 25
    for seed, row in enumerate(rows):
        assert row.request.cancelled() == (seed in taken_back)
        if seed not in taken_back:
            assert row.request.result(0).tokens == alone(model, ByteTokenizer(), row, seed)[0]


@pytest.mark.parametrize("changes", [GPT_VARIANTS[name] for name in ("gpt2", "alternating", "relative", "n-grams")])
def test_a_text_that_is_alone_is_guessed_and_stays_what_it_is(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, widths, n_steps = small_gpt(**{**changes, **BYTES}), list[int](), list[int]()
    codec, step, rounded = codec_of(model, ByteTokenizer()), model.step, quantize(model)
    monkeypatch.setattr(model, "step", lambda ids, *args, **how: widths.append(ids.size(1)) or step(ids, *args, **how))
    for draft in (None, rounded):
        for how in (*HOWS, Sampling(temperature=0.01)):
            prompt = [dice % 5 for dice in range(12)]
            row = new_row(
                model, codec, prompt, how, most=48, max_new_tokens=30, stops=(), seed=3, never=None, ignore_eos=True
            )
            work = Writing(model, 1, draft)
            widths.clear()
            with torch.inference_mode():
                work.waiting.append(row)
                while work.due() is not None:
                    work.advance()
            n_steps.append(len(widths))
            assert row.request.result(0).tokens == alone(model, ByteTokenizer(), row, 3)[0]
    assert min(n_steps[:5]) < 30  # one for the prompt, and one for each of the others
    assert min(n_steps[5:]) < 25


def test_a_short_text_that_comes_later_ends_first() -> None:
    model = small_gpt(**BYTES)

    def row(n: int) -> Row:
        return new_row(
            model, codec_of(model, ByteTokenizer()), [5], Sampling(), most=48, max_new_tokens=n, stops=(), seed=n,
            never=None, ignore_eos=True,
        )  # fmt: skip

    work, long, short = Writing(model, 4), row(40), row(6)
    with torch.inference_mode():
        work.waiting.append(long)
        for _ in range(10):
            work.advance()
        work.waiting.append(short)
        for _ in range(6):
            work.advance()
    assert short.request.done()
    assert len(long.tokens) == 17  # it has waited for nothing


def test_a_long_prompt_is_read_in_pieces_between_the_steps_of_those_that_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "READ_AT_ONCE", 4)
    model, work = small_gpt(**BYTES), None
    work = Writing(model, 4)
    codec, rest = codec_of(model, ByteTokenizer()), {"stops": (), "never": None, "ignore_eos": True, "most": 48}
    first = new_row(model, codec, [5], Sampling(), max_new_tokens=40, seed=0, **rest)
    second = new_row(model, codec, [5] * 30, Sampling(), max_new_tokens=1, seed=0, **rest)
    with torch.inference_mode():
        work.waiting.append(first)
        work.advance()
        work.waiting.append(second)
        for n in range(1, 8):
            work.advance()
            assert len(first.tokens) == n + 2
            assert not second.request.done()
        work.advance()
    assert second.request.done()


def test_the_room_of_a_cache_is_that_of_its_longest_row() -> None:
    model, dice = small_gpt(**BYTES), random.Random(3)
    rows, work = [*rows_of(model, ByteTokenizer(), 200, dice)], Writing(model, 4)
    with torch.inference_mode():
        for row in rows:
            work.waiting.append(row)
            work.advance()
            if isinstance(work.cache, SharedCache):
                assert work.cache.capacity <= 64
        while work.due() is not None:
            work.advance()
    assert all(row.request.done() for row in rows)
