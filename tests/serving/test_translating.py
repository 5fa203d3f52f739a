"""Lines that are searched side by side, whenever each began: what each gets is what it would get alone."""

import random
from typing import Any

import pytest
import torch

from tests.models.helpers import GPT_VARIANTS, VARIANTS, small_gpt, small_model
from transformer_zoo.config import BeamSearch
from transformer_zoo.inference import beam_search, translate_n_best
from transformer_zoo.inference.lines import finder_of, prepare_lines
from transformer_zoo.inference.notes import Notes
from transformer_zoo.serving import translating
from transformer_zoo.serving.beams import Beams
from transformer_zoo.serving.requests import Request
from transformer_zoo.serving.translating import Lines, Translating
from transformer_zoo.tokenizers import TranslationTokenizer, TranslationTokenizerSettings

HOWS: dict[str, dict[str, Any]] = {
    "greedy": {"beam": 1},
    "beam": {"beam": 4},
    "length": {"beam": 3, "penalty": "length", "length_penalty": 1.2, "n_best": 3},
    "rules": {"beam": 3, "no_repeat_ngram_size": 3, "min_new_tokens": 4, "repetition_penalty": 1.3},
}


@pytest.fixture(scope="module")
def pair() -> TranslationTokenizer:
    return TranslationTokenizer.train(["ja"], ["yes"], TranslationTokenizerSettings(kind="bytes"))


def check_alone(model: Any, how: BeamSearch, given: list[list[int]], prefix: list[list[int]], seed: int) -> None:
    """Sources that join at steps of their own, of whom some are taken back."""
    dice, beams, found = random.Random(seed), Beams[int](model, how, 5), dict[int, Any]()
    coming, taken_back = [*range(len(given))], set[int]()
    with torch.inference_mode():
        while coming or beams.owners:
            some = [coming.pop(0) for _ in range(min(len(coming), 5 - len(beams.owners))) if dice.random() < 0.4]
            if some:
                beams.join(model, [given[i] for i in some], [prefix[i] for i in some], some)
            if beams.owners and dice.random() < 0.1:
                taken_back.add(gone := dice.choice(beams.owners))
                beams.keep([row for row, i in enumerate(beams.owners) if i != gone])
            found |= dict(beams.step())
    assert 0 < len(taken_back) < len(given) - 5
    for i in {*range(len(given))} - taken_back:
        [wanted] = beam_search(model, [given[i]], how, prefix=[prefix[i]])
        assert [(one.tokens, one.ended) for one in found[i]] == [(one.tokens, one.ended) for one in wanted], i
        assert [one.score for one in found[i]] == pytest.approx([one.score for one in wanted], abs=1e-4)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", ["paper", "learned", "relative", "offset", "grouped", "two vocabularies"])
def test_what_a_source_finds_does_not_depend_on_the_others(name: str, how: str) -> None:
    torch.manual_seed(3)
    model, dice = small_model(**VARIANTS[name]), random.Random(4)
    longest = model.facts.context - 2
    given = [[*(dice.randrange(4, 19) for _ in range(min(dice.choice((1, 3, 9, 14)), longest))), 3] for _ in range(26)]
    prefix = [[dice.randrange(4, 19)] * dice.choice((0, 0, 1, 2)) for _ in given]
    check_alone(model, BeamSearch(max_extra=8, **HOWS[how]), given, prefix, seed=5)


@pytest.mark.parametrize("how", ["beam", "rules"])
@pytest.mark.parametrize("name", ["gpt2", "alternating", "relative", "n-grams"])
def test_what_a_prompt_finds_does_not_depend_on_the_others(name: str, how: str) -> None:
    torch.manual_seed(3)
    model, dice = small_gpt(**{**GPT_VARIANTS[name], "max_seq_len": 40, "eos_id": 3}), random.Random(4)
    given = [[dice.randrange(4, 53) for _ in range(dice.choice((1, 3, 9, 20)))] for _ in range(26)]
    check_alone(model, BeamSearch(max_extra=9, **HOWS[how]), given, [[] for _ in given], seed=6)


def lines_of(model: Any, pair: TranslationTokenizer, texts: list[str], how: BeamSearch, **options: Any) -> Lines:
    finder, cutter = finder_of(model, pair, how, **options)
    return Lines(
        Request(), finder, [["", text, ""] for text in texts], prepare_lines(finder.codec, texts, 1, cutter, Notes())
    )


def test_lines_of_all_kinds_at_random_times_are_those_of_the_command(
    pair: TranslationTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translating, "READ_AT_ONCE", 30)
    torch.manual_seed(0)
    model, dice, work = small_model(vocab_size=261, max_seq_len=64), random.Random(7), Translating(6, 0.0)
    hows = [BeamSearch(max_extra=6, **how) for how in (HOWS["greedy"], HOWS["beam"], {"beam": 2, "n_best": 2})]
    asked = []
    with torch.inference_mode():
        while len(asked) < 40 or work.due() is not None:
            if len(asked) < 40 and dice.random() < 0.3:
                texts = [
                    "".join(dice.choices("ab c", k=dice.choice((0, 1, 4, 15)))) for _ in range(dice.choice((1, 3)))
                ]
                how, scored, prefix = dice.choice(hows), dice.random() < 0.5, dice.choice(("", "yes"))
                asked.append((texts, prefix, lines_of(model, pair, texts, how, scored=scored, prefix=prefix)))
                work.add(asked[-1][-1])
                if dice.random() < 0.1:
                    asked[-1][-1].request.cancel()
            work.advance()
            assert sum(len(beams.owners) for beams in work.beams.values()) <= 6
    assert sum(lines.request.cancelled() for *_, lines in asked) in range(1, 20)
    for texts, prefix, lines in asked:
        if lines.request.cancelled():
            continue
        finder = lines.finder
        wanted = translate_n_best(model, pair, texts, finder.how, scored=finder.scored, prefix=prefix)
        for found, line in zip(lines.request.result(0), wanted, strict=True):
            assert [one.text for one in found] == [one.text for one in line]
            assert [one.is_cut for one in found] == [one.is_cut for one in line]


def test_one_line_does_not_wait_for_all_lines_of_somebody_else(pair: TranslationTokenizer) -> None:
    model, work = small_model(vocab_size=261, max_seq_len=64), Translating(2, 0.0)
    how = BeamSearch(beam=1, max_extra=5, min_new_tokens=5)
    many, one = lines_of(model, pair, ["x" * 9] * 30, how), lines_of(model, pair, ["y"], how)
    with torch.inference_mode():
        work.add(many)
        work.advance()
        work.add(one)
        while not one.request.done():
            work.advance()
        done = sum(line.is_done for line in many.lines)
        while not many.request.done():
            work.advance()
    assert done < 6
    assert [line.is_done for line in many.lines] == [True] * 30


def test_a_short_line_that_comes_later_is_done_first(pair: TranslationTokenizer) -> None:
    model, work = small_model(vocab_size=261, max_seq_len=64), Translating(6, 0.0)

    def lines(text: str, extra: int) -> Lines:
        return lines_of(model, pair, [text], BeamSearch(beam=2, max_extra=extra, min_new_tokens=extra))

    long, short = lines("x" * 20, 40), lines("x", 5)
    with torch.inference_mode():
        work.add(long)
        for _ in range(5):
            work.advance()
        work.add(short)
        for _ in range(7):
            work.advance()
    assert short.request.done()
    assert not long.request.done()
    assert [max(beams.search.ages) for beams in work.beams.values()] == [12]  # one a step: it has waited for nothing
