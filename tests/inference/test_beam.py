"""Beam search against exhaustive search, against a slow one for a single sentence, and its own promises."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.flat import beam_search
from tests.models.helpers import GPT_VARIANTS, small_gpt
from transformer_zoo import UserError
from transformer_zoo.config import BeamSearch, EncoderDecoderConfig
from transformer_zoo.inference import Hypothesis
from transformer_zoo.inference.modes import LOOK_EVERY
from transformer_zoo.models import DecoderOnly, EncoderDecoder

PAD, UNK, BOS, EOS = range(4)


def length_penalty_at(length: int, alpha: float, penalty: Any = "gnmt") -> float:
    return BeamSearch(length_penalty=alpha, penalty=penalty).divisor(length)


def make_model(vocab_size: int = 23, seed: int = 0, **overrides: object) -> EncoderDecoder:
    """A small random model with distributions far from flat."""
    torch.manual_seed(seed)
    fields = {
        "d_model": 16,
        "n_heads": 2,
        "d_ff": 24,
        "n_encoder_layers": 1,
        "n_decoder_layers": 2,
        **overrides,
    }
    model = EncoderDecoder(EncoderDecoderConfig.of(vocab_size=vocab_size, **fields)).eval()
    with torch.no_grad():
        model.head_weight.mul_(1.7)
    return model


def make_sources(lengths: Sequence[int], vocab_size: int = 23, seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [[*torch.randint(4, vocab_size, (n - 1,), generator=generator).tolist(), EOS] for n in lengths]


def pad(sources: Sequence[Sequence[int]], extra: int = 0) -> tuple[Tensor, Tensor]:
    longest = max(map(len, sources)) + extra
    ids = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in sources])
    return ids, ids != PAD


def search(model: EncoderDecoder, sources: Sequence[Sequence[int]], **options: object) -> list[list[Hypothesis]]:
    return beam_search(model, *pad(sources), **options)


@torch.no_grad()
def next_log_probs(model: EncoderDecoder, source: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """log p(next | tokens, source) without cache, batch or padding."""
    logits = model(torch.tensor([source]), torch.tensor([[BOS, *tokens]]))[0, -1]
    return logits.log_softmax(-1).tolist()


@torch.no_grad()
def hypothesis(
    model: EncoderDecoder,
    source: Sequence[int],
    tokens: Sequence[int],
    *,
    ended: bool = True,
    alpha: float = 0.6,
    penalty: str = "gnmt",
) -> Hypothesis:
    """Scored in one pass: log p(tokens, eos | source); of one that was cut, log p(tokens | source)."""
    written = [*tokens, EOS] if ended else tokens
    logits = model(torch.tensor([source]), torch.tensor([[BOS, *tokens]]))[0]
    log_prob = logits.log_softmax(-1)[range(len(written)), written].sum().item()
    length = len(tokens) + (ended or (model.config.forced_last_id is not None))
    return Hypothesis(list(tokens), log_prob, log_prob / length_penalty_at(length, alpha, penalty), ended)


def naive_beam_search(
    model: EncoderDecoder,
    source: Sequence[int],
    *,
    beam: int,
    limit: int,
    n_best: int,
    alpha: float = 0.6,
    penalty: str = "gnmt",
    prefix: Sequence[int] = (),
    never: Sequence[int] = (PAD, BOS),
) -> list[Hypothesis]:
    """As the docstring of beam_search says it, up to the limit: never stops early."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished = []
    for length in range(1, limit + 1):
        divisor = length_penalty_at(length, alpha, penalty)
        if length == limit and (model.config.forced_last_id is not None):
            finished += [Hypothesis(tokens, log_prob, log_prob / divisor, ended=False) for log_prob, tokens in live]
            break
        candidates = []
        for log_prob, tokens in live:
            for token, more in enumerate(next_log_probs(model, source, tokens)):
                must = prefix[length - 1] if length <= len(prefix) else token
                cost = 0.0 if length <= len(prefix) else more  # a prefix is given, not chosen
                if token not in never and token == must:
                    candidates.append((log_prob + cost, [*tokens, token]))
        candidates.sort(reverse=True)
        for log_prob, tokens in candidates[:beam]:
            if tokens[-1] == EOS:
                finished.append(Hypothesis(tokens[:-1], log_prob, log_prob / divisor, ended=True))
            elif length == limit:
                finished.append(Hypothesis(tokens, log_prob, log_prob / divisor, ended=False))
        live = [c for c in candidates if c[1][-1] != EOS][:beam]
    return sorted(finished, key=lambda h: -h.score)[:n_best]


def assert_same(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> None:
    assert [(h.tokens, h.ended) for h in found] == [(h.tokens, h.ended) for h in expected]
    assert [h.log_prob for h in found] == pytest.approx([h.log_prob for h in expected], abs=1e-4)
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-4)


@pytest.mark.parametrize(("penalty", "alpha"), [("gnmt", 0.6), ("length", 1.0), ("gnmt", 0.0), ("length", -0.5)])
@pytest.mark.parametrize("forced_eos", [False, True])
def test_a_beam_wide_enough_finds_what_exhaustive_search_finds(penalty: str, alpha: float, forced_eos: bool) -> None:
    model = make_model(vocab_size=7, forced_last_id=EOS if forced_eos else None)
    source, longest = make_sources([3], vocab_size=7)[0], 3 if forced_eos else 4  # of 4 tokens, the last may be eos
    everything = [
        hypothesis(model, source, tokens, ended=n < longest, alpha=alpha, penalty=penalty)
        for n in range(longest + 1)
        for tokens in itertools.product([UNK, 4, 5, 6], repeat=n)
    ]
    everything.sort(key=lambda h: -h.score)
    [found] = search(model, [source], beam=400, n_best=400, max_extra=1, length_penalty=alpha, penalty=penalty)
    assert len(found) == len(everything) == (85 if forced_eos else 341)
    assert_same(found[:20], everything[:20])


@pytest.mark.parametrize("forced_eos", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("beam", "n_best", "penalty", "alpha"),
    [
        (1, 1, "gnmt", 0.6),
        (2, 2, "gnmt", 0.6),
        (4, 1, "length", 1.0),
        (5, 5, "gnmt", 0.0),
        (3, 2, "length", 2.0),
    ],
)
def test_a_pruned_beam_keeps_what_a_slow_search_keeps(
    seed: int, beam: int, n_best: int, penalty: str, alpha: float, forced_eos: bool
) -> None:
    model = make_model(seed=seed, forced_last_id=EOS if forced_eos else None)
    sources = make_sources([2, 6, 4, 3, 1, 7], seed=seed)
    found = search(model, sources, beam=beam, n_best=n_best, penalty=penalty, length_penalty=alpha, max_extra=5)
    for source, hypotheses in zip(sources, found, strict=True):
        expected = naive_beam_search(
            model, source, beam=beam, limit=len(source) + 5, n_best=n_best, alpha=alpha, penalty=penalty
        )
        if beam == 1:  # greedy ends at its first eos
            expected = [greedy(model, source, len(source) + 5)]
        assert_same(hypotheses, expected)


def greedy(model: EncoderDecoder, source: Sequence[int], limit: int) -> Hypothesis:
    tokens: list[int] = []
    for _ in range(limit - (model.config.forced_last_id is not None)):
        log_probs = next_log_probs(model, source, tokens)
        token = max((t for t in range(len(log_probs)) if t not in (PAD, BOS)), key=lambda t: log_probs[t])
        if token == EOS:
            return hypothesis(model, source, tokens)
        tokens.append(token)
    return hypothesis(model, source, tokens, ended=False)


@pytest.mark.parametrize("forced_eos", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_beam_1_is_the_argmax_loop(seed: int, forced_eos: bool) -> None:
    model = make_model(seed=seed, forced_last_id=EOS if forced_eos else None)
    sources = make_sources([1, 5, 9, 3], seed=seed)
    for source, [found] in zip(sources, search(model, sources, beam=1, max_extra=7), strict=True):
        assert_same([found], [greedy(model, source, len(source) + 7)])


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("beam", [1, 4])
def test_a_sentence_gets_the_same_in_every_company(beam: int, positions: str) -> None:
    model = make_model(vocab_size=97, positions=positions, max_seq_len=64)
    sources = make_sources([3, 8, 5, 12, 1, 7, 7, 2, 10, 4], vocab_size=97)
    alone = [search(model, [source], beam=beam, n_best=beam, max_extra=12)[0] for source in sources]
    orders = [list(range(10)), [9, 3, 1, 0, 2, 8, 4, 6, 5, 7]]
    for order, size, extra in itertools.product(orders, [3, 10], [0, 5]):
        for start in range(0, 10, size):
            rows = order[start : start + size]
            ids, mask = pad([sources[i] for i in rows], extra)
            for i, found in zip(rows, beam_search(model, ids, mask, beam=beam, n_best=beam, max_extra=12), strict=True):
                assert_same(found, alone[i])


def test_no_mask_means_all_tokens_are_real() -> None:
    model = make_model()
    ids = torch.tensor(make_sources([6, 6]))
    assert beam_search(model, ids, beam=3) == beam_search(model, ids, torch.ones_like(ids, dtype=torch.bool), beam=3)


def test_the_n_best_are_different_sorted_and_as_many_as_asked() -> None:
    for found in search(make_model(), make_sources([4, 7, 2]), beam=6, n_best=6):
        assert len({tuple(h.tokens) for h in found}) == len(found) == 6
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        assert not {PAD, BOS, EOS} & {token for h in found for token in h.tokens}


def test_the_best_does_not_depend_on_how_many_are_wanted() -> None:
    model, sources = make_model(), make_sources([4, 7, 2])
    many = search(model, sources, beam=4, n_best=4)
    for n in (1, 2, 3):
        for some, all_ in zip(search(model, sources, beam=4, n_best=n), many, strict=True):
            assert_same(some, all_[:n])


def without_eos(model: EncoderDecoder) -> EncoderDecoder:
    """The same model, for which eos is next to impossible."""
    logits = model.logits
    model.logits = lambda hidden: logits(hidden).index_fill(-1, torch.tensor([EOS]), -1e3)  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("forced_eos", [False, True])
@pytest.mark.parametrize("beam", [1, 3])
def test_every_source_has_its_own_length_limit(beam: int, forced_eos: bool) -> None:
    model, sources = without_eos(make_model(forced_last_id=EOS if forced_eos else None)), make_sources([2, 9, 5])
    found = search(model, sources, beam=beam, max_extra=4)
    assert [len(h.tokens) + forced_eos for [h] in found] == [6, 13, 9]
    # Cut off at the limit, a hypothesis pays for no eos.
    for source, [h] in zip(sources, found, strict=True):
        assert_same([h], [hypothesis(model, source, h.tokens, ended=False)])


def test_learned_positions_limit_the_length() -> None:
    model = make_model(positions="learned", max_seq_len=8)
    [[found]] = search(without_eos(model), make_sources([5]), beam=2)
    assert len(found.tokens) == 8


def test_an_absolute_length_limit() -> None:
    found = search(without_eos(make_model()), make_sources([2, 9]), beam=2, max_extra=4, max_length=8)
    assert [len(h.tokens) for [h] in found] == [6, 8]


def test_scores_by_hand() -> None:
    model = make_model()
    source = make_sources([5])[0]
    for penalty, value in (("gnmt", lambda n: ((5 + n) / 6) ** 0.7), ("length", lambda n: n**0.7)):
        [found] = search(model, [source], beam=4, n_best=4, penalty=penalty, length_penalty=0.7)
        for h in found:
            assert h.log_prob == pytest.approx(hypothesis(model, source, h.tokens, ended=h.ended).log_prob, abs=1e-4)
            assert h.score == pytest.approx(h.log_prob / value(len(h.tokens) + h.ended), abs=1e-6)


def test_length_penalty_at_known_lengths() -> None:
    assert length_penalty_at(1, 0.6) == 1.0
    assert length_penalty_at(7, 1.0) == 2.0
    assert length_penalty_at(9, 0.5, "length") == 3.0
    assert length_penalty_at(9, 0.0, "length") == 1.0
    for alpha in (1000.0, -100000.0, math.nan, math.inf):
        with pytest.raises(UserError, match=r"length_penalty is .*, expected at least -10 and at most 10"):
            length_penalty_at(9, alpha)
    with pytest.raises(UserError, match="'wu'"):
        length_penalty_at(3, 0.6, "wu")


@pytest.mark.parametrize("never", [(), (UNK,), (PAD, BOS, 5, 6, 7)])
def test_only_the_tokens_never_wanted_are_in_no_translation(never: tuple[int, ...]) -> None:
    model, sources, seen = make_model(logit_bias=True), make_sources([4, 6, 3, 5, 8, 2]), set[int]()
    assert model.logit_bias is not None
    model.logit_bias[[PAD, BOS]] = 3.0
    found = search(model, sources, beam=3, n_best=3, never=never, max_extra=5)
    for source, hypotheses in zip(sources, found, strict=True):
        limit = len(source) + 5
        assert_same(hypotheses, naive_beam_search(model, source, beam=3, limit=limit, n_best=3, never=never))
        seen |= {token for h in hypotheses for token in h.tokens}
    assert not seen & set(never)
    assert {PAD, BOS} - set(never) <= seen


@pytest.mark.parametrize("beam", [1, 3])
def test_a_prefix_is_kept_and_continued_as_the_model_would(beam: int) -> None:
    model = make_model()
    sources, prefixes = make_sources([4, 6, 3, 5]), [[7, 9], [], [11], [5, 5, 5]]
    found = search(model, sources, beam=beam, n_best=1, prefix=prefixes, max_extra=5)
    for source, prefix, [best] in zip(sources, prefixes, found, strict=True):
        assert best.tokens[: len(prefix)] == prefix
        if beam > 1:
            limit = len(source) + 5
            assert_same([best], naive_beam_search(model, source, beam=beam, limit=limit, n_best=1, prefix=prefix))
    alone = [search(model, [s], beam=beam, prefix=[p], max_extra=5)[0] for s, p in zip(sources, prefixes, strict=True)]
    for one, other in zip(found, alone, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"never": [5, EOS]}, "never contains eos, 3"),
        ({"never": [23]}, "never contains 23, outside the vocabulary of 23"),
        ({"never": [5], "prefix": [[5], []]}, "special id 5"),
        ({"beam": 2, "n_best": 3}, "n_best 3"),
        ({"beam": 0}, "beam is 0"),
        ({"max_extra": 0}, "max_extra"),
        ({"penalty": "none"}, "'none'"),
        ({"length_penalty": math.nan}, "length_penalty is nan"),
        ({"prefix": [[5]]}, "1 prefixes for 2 sources"),
        ({"prefix": [[5], [EOS]]}, "special id 3"),
        ({"prefix": [[5], [6] * 90]}, "prefix 1 has 90 tokens"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        search(make_model(), make_sources([3, 4]), **options)


def test_a_broken_model_is_no_silent_empty_translation() -> None:
    model = make_model()
    with torch.no_grad():
        model.head_weight.fill_(math.nan)
    with pytest.raises(UserError, match="not finite"):
        search(model, make_sources([3]))


def test_at_a_real_width_a_source_is_translated_as_if_alone() -> None:
    """Width 256, 3 + 3 layers, float32: sums of that length round differently in other shapes of batch."""
    fields = {"d_model": 256, "n_heads": 4, "d_ff": 1024, "n_encoder_layers": 3, "n_decoder_layers": 3}
    model = make_model(vocab_size=500, **fields)
    sources = make_sources([2 + 7 * i % 29 for i in range(30)], vocab_size=500)
    options = {"beam": 3, "max_extra": 4}
    together = search(model, sources, **options)
    assert len({tuple(best.tokens) for [best] in together}) > 20
    for source, [found] in zip(sources, together, strict=True):
        [[alone]] = search(model, [source], **options)
        assert found.tokens == alone.tokens
        assert found.log_prob == pytest.approx(alone.log_prob, abs=1e-3)


@pytest.mark.parametrize("vocab_size", [31, 96, 800, 1024])
def test_the_blockwise_top_k_is_thetop_k(vocab_size: int) -> None:
    from transformer_zoo.inference.continuations import top_k

    x = torch.randn(3, 2, vocab_size)
    x[0, 0, 5:20] = x[0, 0].max() + 1  # ties
    values, ids = top_k(x, 5)
    assert torch.equal(values, x.topk(5).values)
    assert torch.equal(x.gather(-1, ids), values)
    assert all(len(set(row)) == 5 for row in ids.flatten(0, 1).tolist())


@pytest.mark.parametrize("look_every", [3, 100])
@pytest.mark.parametrize("options", [
    {"beam": 1}, {"beam": 4, "n_best": 3}, {"beam": 2, "max_length": 6},
    {"beam": 5, "prefix": [[7], [], [8, 9], []]}, {"beam": 3, "penalty": "length", "length_penalty": -0.5},
])  # fmt: skip
@pytest.mark.parametrize("forced_eos", [False, True])
def test_it_matters_not_how_often_anybody_looks(
    forced_eos: bool, options: dict[str, object], look_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sources = make_model(forced_last_id=EOS if forced_eos else None), make_sources([3, 8, 5, 1])
    wanted = search(model, sources, max_extra=9, **options)
    monkeypatch.setitem(LOOK_EVERY, "cpu", look_every)
    for found, expected in zip(search(model, sources, max_extra=9, **options), wanted, strict=True):
        assert [(h.tokens, h.ended) for h in found] == [(h.tokens, h.ended) for h in expected]


@pytest.mark.gpu
def test_the_gpu_finds_what_the_cpu_finds() -> None:
    model, sources = make_model(vocab_size=97), make_sources([3, 8, 5, 12, 1, 7], vocab_size=97)
    ids, mask = pad(sources)
    expected = beam_search(model, ids, mask, beam=4, n_best=4)
    found = beam_search(model.cuda(), ids.cuda(), mask.cuda(), beam=4, n_best=4)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("changes", GPT_VARIANTS.values(), ids=GPT_VARIANTS.keys())
@pytest.mark.parametrize(("beam", "n_best"), [(1, 1), (4, 3)])
def test_a_decoder_only_model_is_searched_as_slowly_by_hand(changes: dict[str, Any], beam: int, n_best: int) -> None:
    """Prompts of different length, whatever the positions, the windows and the n-grams."""
    torch.manual_seed(3)
    model = small_gpt(eos_id=3, stop_ids=(5, 6), **changes)
    prompts, limit = [[7, 8, 9, 10, 11, 12], [13], [14, 15, 14]], 6
    options = {"beam": beam, "n_best": n_best, "max_extra": 99, "max_length": limit}
    found = beam_search(model, prompts, **options)
    for prompt, hypotheses in zip(prompts, found, strict=True):
        assert_same(hypotheses, slow_search(model, prompt, beam, limit, n_best))
        [alone] = beam_search(model, [prompt], **options)
        assert_same(alone, hypotheses)


@torch.no_grad()
def slow_search(model: DecoderOnly, prompt: list[int], beam: int, limit: int, n_best: int) -> list[Hypothesis]:
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[Hypothesis] = []
    for length in range(1, limit + 1):
        candidates = []
        for log_prob, tokens in live:
            log_probs = model(torch.tensor([[*prompt, *tokens]]))[0, -1].log_softmax(-1)
            candidates += [(log_prob + more, [*tokens, token]) for token, more in enumerate(log_probs.tolist())]
        candidates.sort(reverse=True)
        divisor = length_penalty_at(length, 0.6)
        for log_prob, tokens in candidates[:beam]:
            ended = tokens[-1] in (3, 5, 6)
            if ended or length == limit:
                kept = tokens[:-1] if ended else tokens
                finished.append(Hypothesis(kept, log_prob, log_prob / divisor, ended))
                if beam == 1:
                    return finished
        live = [c for c in candidates if c[1][-1] not in (3, 5, 6)][:beam]
    return sorted(finished, key=lambda h: -h.score)[:n_best]


def test_a_prompt_and_its_answer_fit_into_the_context() -> None:
    model = small_gpt(eos_id=3)
    [[best]] = beam_search(model, [[7] * 15], beam=2, max_extra=9)
    assert len(best.tokens) <= model.config.max_seq_len + 1 - 15
    with pytest.raises(UserError, match="prompt 2: 18 tokens are more than the model takes"):
        beam_search(model, [[1], [7] * 18], beam=2)
