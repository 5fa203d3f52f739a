"""What a draft guesses changes how often the model reads, and nothing else."""

import math
from functools import partial
from typing import Any

import pytest
import torch

import transformer_zoo as tz
from tests.flat import beam_search, generate, greedily
from tests.models.helpers import GPT_VARIANTS, VARIANTS, small_gpt, small_model
from transformer_zoo import DecoderOnly, EncoderDecoder, UserError
from transformer_zoo.inference.speculation import LONGEST_DRAFT, Guesser, Lookup

DRAFTED = [{"temperature": 0.0}, {"temperature": 1.0, "top_k": 9}, {"temperature": 0.7, "repetition_penalty": 1.3}]


class Counted:
    """How often a model was asked."""

    def __init__(self, model: DecoderOnly | EncoderDecoder, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        asked = getattr(model, name)

        def ask(*args: Any, **named: Any) -> Any:
            self.times += 1
            return asked(*args, **named)

        monkeypatch.setattr(model, name, ask)


@pytest.mark.parametrize("how", DRAFTED, ids=["greedy", "drawn", "penalty"])
@pytest.mark.parametrize(
    "changes", [*GPT_VARIANTS.values(), {"ngrams": {"n": 4, "rows": 13}}], ids=[*GPT_VARIANTS, "n-grams"]
)
def test_a_draft_writes_the_same_sooner(
    changes: dict[str, Any], how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_gpt(**{**changes, "max_seq_len": 29})  # shorter than the text
    draft = tz.quantize(model)
    how = {**how, "max_new_tokens": 40, "seed": 3}
    wanted = generate(model, [[5, 6, 7]], lookup=0, **how)
    alone = Counted(model, "hidden", monkeypatch)
    assert generate(model, [[5, 6, 7]], lookup=0, draft=draft, **how) == wanted
    assert alone.times < 25
    assert generate(model, [[5, 6, 7]], lookup=4, draft=draft, **how) == wanted
    pair = [[5, 6, 7], [1, 2]]
    wanted = generate(model, pair, **how)
    head = Counted(model, "logits", monkeypatch)
    assert generate(model, pair, draft=draft, **how) == wanted
    assert (head.times == 0) == (how["temperature"] == 0)  # of the highest logits alone the draft knows enough


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize(
    "options", [{}, {"prefix": [[7, 5]]}, {"max_length": 3}, {"never": ()}], ids=["", "prefix", "short", "all tokens"]
)
@pytest.mark.parametrize("forced_eos", [False, True])
def test_a_draft_translates_the_same_sooner(
    changes: dict[str, Any], forced_eos: bool, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(**changes, forced_last_id=3 if forced_eos else None)
    with torch.no_grad():  # so that not all of them end at once
        model.head_weight[model.config.eos_id] = 0
    draft = tz.quantize(model)
    source = torch.randint(4, 19, (1, 4))
    mask = torch.tensor([[True, True, True, False]])
    [[wanted]] = beam_search(model, source, mask, beam=1, max_extra=7, **options)
    alone = Counted(model, "step", monkeypatch)
    for guesses in ({"lookup": 0}, {"lookup": 4}, {"lookup": 0, "draft": draft}, {"lookup": 4, "draft": draft}):
        alone.times = 0
        [found] = greedily(model, source, mask, max_extra=7, **guesses, **options)
        assert found == wanted.tokens
        assert alone.times <= len(wanted.tokens) + 1
    both = source.repeat(2, 1), mask.repeat(2, 1)
    twice = {**options, "prefix": 2 * options.get("prefix", [[]])}
    assert greedily(model, *both, max_extra=7, draft=draft, **twice) == [wanted.tokens] * 2


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("rows", [1, 13])
def test_without_scores_the_drafts_head_translates_the_same(
    changes: dict[str, Any], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(**changes)
    with torch.no_grad():
        model.head_weight[model.config.eos_id] = 0
    draft, source = tz.quantize(model), torch.randint(4, 19, (rows, 4))
    prefix = [[7, 5] if row % 2 else [] for row in range(rows)]
    wanted = [found.tokens for [found] in beam_search(model, source, beam=1, prefix=prefix)]
    exact = Counted(model, "logits", monkeypatch)
    for helper in (None, draft):
        exact.times = 0
        assert greedily(model, source, prefix=prefix, draft=helper, lookup=0) == wanted
    assert exact.times < max(map(len, wanted)) + 2  # only where pad or bos was likelier than all others, or forced


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("scored", "draft"), [(True, False), (False, False), (False, True)])
def test_logits_that_are_no_numbers_are_noticed_without_scores_too(value: float, scored: bool, draft: Any) -> None:
    model = small_model(share_embeddings="inputs", logit_bias=True)
    assert model.logit_bias is not None
    model.logit_bias[7] = value
    search: Any = (
        partial(beam_search, beam=1) if scored else partial(greedily, draft=tz.quantize(model) if draft else None)
    )
    with pytest.raises(UserError, match="logits are not finite"):
        search(model, torch.randint(4, 19, (3, 4)))


def test_in_sixteen_bits_the_model_scores_by_itself() -> None:
    model = small_model()
    draft, source = tz.quantize(model), torch.randint(4, 19, (13, 4))
    how: dict[str, Any] = {"dtype": torch.bfloat16, "lookup": 0}
    assert greedily(model, source, draft=draft, **how) == greedily(model, source, **how)


def test_where_pad_is_the_likeliest_the_model_itself_is_asked() -> None:
    model = small_model(share_embeddings="inputs", logit_bias=True)
    assert model.logit_bias is not None
    model.logit_bias[model.config.pad_id] = 99
    draft, source = tz.quantize(model), torch.randint(4, 19, (5, 4))
    wanted = [found.tokens for [found] in beam_search(model, source, beam=1)]
    assert greedily(model, source, draft=draft) == wanted


def test_a_draft_saves_steps_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(share_embeddings="inputs", logit_bias=True)
    assert model.logit_bias is not None
    model.logit_bias[model.config.eos_id] = -99  # the end comes at the limit only
    draft = tz.quantize(model)
    alone = Counted(model, "step", monkeypatch)
    [found] = greedily(model, [[4, 2]], max_length=30, max_extra=99, draft=draft, lookup=0)
    assert len(found) == 30
    assert alone.times < 15


def test_a_draft_that_is_wrong_is_asked_for_less() -> None:
    asked: list[int] = []

    def draft(n: int) -> list[int]:
        asked.append(n)
        return [1] * n

    guesser, text = Guesser(Lookup(0), draft), [9]
    for right in (8, 2, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8, 8):
        guess = guesser.guess(text, room=20)
        written = [*guess[:right], 2]
        guesser.learn(written)
        text += written
    # after 8 and 2 right: 8, then 0.9 (0.9 8 + 8) + 2 = 15.7 right, 0.9^2 0.5 + 1 = 1.4 wrong, p = 0.918, p^8 = 1/2
    assert asked[:3] == [8, 8, 8]
    assert asked[3:10] == sorted(asked[3:10], reverse=True)
    assert asked[9] == 1
    assert asked[-1] > 1
    assert guesser.guess(text, room=1) == [1]
    assert guesser.guess(text, room=0) == []


@pytest.mark.parametrize("right", [0, 8])
def test_a_draft_is_judged_forever(right: int) -> None:
    guesser = Guesser(Lookup(0), lambda n: [1] * n)
    for _ in range(10_000):
        guesser.learn([1] * right + [2])
        assert len(guesser.guess([9], room=20)) in range(1, 9)


def test_the_text_is_asked_first_once_it_is_as_good() -> None:
    asked = []
    guesser, text = Guesser(Lookup(8), lambda n: asked.append(n) or [3] * n), [3, 3, 3]
    for _ in range(5):
        guess = guesser.guess(text, room=99)
        guesser.learn([*guess, 3])
        text += [*guess, 3]
    assert asked == [LONGEST_DRAFT] * 2  # with the second text there was something to look up


def test_a_draft_of_another_model_is_refused() -> None:
    draft = tz.quantize(small_gpt(n_layers=1))
    for other in (draft, tz.quantize(small_gpt())):  # of another shape, and of other weights
        with pytest.raises(UserError, match="draft is not of this model"):
            generate(small_gpt(), [[1]], draft=other)
    with pytest.raises(UserError, match="draft is not of this model"):
        greedily(small_model(), [[4, 2]], draft=tz.quantize(small_model(n_decoder_layers=1)))
