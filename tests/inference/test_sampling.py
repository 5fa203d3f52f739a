"""What may be drawn, and how often it is."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from transformer_zoo import Sampling, UserError
from transformer_zoo.inference.rules import RepetitionPenalty
from transformer_zoo.inference.sampling import (
    Chooser,
    apply_temperature,
    filtered,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    sample,
)

DRAWS = 20_000


def kept(logits: Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero()[:, 0].tolist() for row in logits]


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities]).log()


def test_temperature() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, -2.0], [0.0, -1.0, -5.0, -3.0]])
    assert_close(apply_temperature(logits, 0.5).softmax(-1), (logits / 0.5).softmax(-1))
    assert_close(apply_temperature(logits, 1e-30).softmax(-1)[1], torch.tensor([1.0, 0, 0, 0]))  # overflows nothing
    assert kept(apply_temperature(logits, 0)) == [[1], [0]]  # the first of the highest


@pytest.mark.parametrize("k", [1, 2, 3, 7, 8, 9])
def test_top_k_keeps_exactly_k_on_ties(k: int) -> None:
    logits = torch.tensor([[1.0, 5, 1, 1, 5, 1, 0, 1], [0.0] * 8, [1.0, 2, 3, 4, 5, 6, 7, 8]])
    found = keep_top_k(logits, k)
    assert found.isfinite().sum(-1).tolist() == [min(k, 8)] * 3
    assert set(kept(found)[2]) == set(range(8)[-k:])
    values = torch.where(found.isfinite(), found, logits)
    assert torch.equal(values, logits)  # what is kept keeps its value


@pytest.mark.parametrize(
    ("p", "wanted"), [(0.01, [2]), (0.39, [2]), (0.41, [0, 2]), (0.69, [0, 2]), (0.71, [0, 2, 3]), (0.99, [0, 1, 2, 3])]
)
def test_top_p_keeps_the_token_that_crosses_p(p: float, wanted: list[int]) -> None:
    logits = logits_of(0.3, 0.1, 0.4, 0.2)
    found = keep_top_p(logits, p)
    assert kept(found) == [wanted]
    assert torch.equal(found[0, wanted], logits[0, wanted])


def test_top_p_cuts_through_ties_and_through_long_tails() -> None:
    assert keep_top_p(torch.zeros(1, 10), 0.35).isfinite().sum() == 4
    rows = torch.stack([torch.zeros(5000), torch.linspace(0, 2000, 5000)])  # the first needs a full sort, the other not
    found = keep_top_p(rows, 0.5)
    assert found.isfinite().sum(-1).tolist() == [2500, 2]
    for row, alone in zip(found, rows, strict=True):
        assert torch.equal(row, keep_top_p(alone[None], 0.5)[0])


def test_min_p() -> None:
    assert kept(keep_min_p(logits_of(0.5, 0.24, 0.06, 0.2), 0.39)) == [[0, 1, 3]]
    assert kept(keep_min_p(logits_of(0.5, 0.24, 0.06, 0.2), 1.0)) == [[0]]


def test_repetition_penalty() -> None:
    logits, text = torch.tensor([[2.0, -2.0, 4.0, -4.0]]), torch.tensor([[-1, 1, 0, 1]])
    assert RepetitionPenalty(2.0)(logits, text, 0).tolist() == [[1.0, -4.0, 4.0, -4.0]]


def critical(freedom: int) -> float:
    """What chi-squared exceeds once in 10,000 times, by Wilson and Hilferty's approximation."""
    return float(freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3)


LOGITS = torch.tensor([1.5, 0.3, -0.4, 2.1, 0.0, -3.0, 1.4, 0.9, -1.1, 2.0])
SEEN = torch.tensor([True, False, True, False, False, False, True, False, False, False])


def distribution(**options: float) -> Tensor:
    """The distribution that the options describe, token by token in plain Python."""
    scores = LOGITS.double().tolist()
    if (penalty := options.get("repetition_penalty")) is not None:
        scores = [(x / penalty if x > 0 else x * penalty) if s else x for x, s in zip(scores, SEEN, strict=True)]
    weights = [math.exp(x / options.get("temperature", 1.0)) for x in scores]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    allowed = order[: int(options.get("top_k", len(order)))]
    if (p := options.get("top_p")) is not None:
        total, reached, nucleus = sum(weights[i] for i in allowed), 0.0, []
        for i in allowed:
            if reached < p * total:
                nucleus.append(i)
            reached += weights[i]
        allowed = nucleus
    allowed = [i for i in allowed if weights[i] >= options.get("min_p", 0) * weights[order[0]]]
    chances = torch.tensor([weights[i] if i in allowed else 0.0 for i in range(len(weights))], dtype=torch.float64)
    return chances / chances.sum()


def draw(how: Sampling) -> Tensor:
    rules = [] if how.repetition_penalty is None else [RepetitionPenalty(how.repetition_penalty)]
    texts = SEEN.nonzero()[:, 0].expand(DRAWS, -1)
    generators = [torch.Generator().manual_seed(1)] * DRAWS
    return Chooser(how, rules, generators, texts).choose(LOGITS.expand(DRAWS, -1))


def chi_squared(tokens: Tensor, chances: Tensor) -> float:
    expected = chances * len(tokens)
    found = tokens.bincount(minlength=len(chances))
    assert found[expected == 0].sum() == 0
    possible = expected > 0
    return float(((found - expected)[possible] ** 2 / expected[possible]).sum())


OPTIONS: list[dict[str, float]] = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.8},
    {"top_k": 4},
    {"top_p": 0.8},
    {"min_p": 0.2},
    {"repetition_penalty": 1.5},
    {"temperature": 1.3, "top_k": 8, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_samples_have_the_distribution_of_the_filtered_softmax(options: dict[str, float]) -> None:
    sampling = Sampling(**{name: int(x) if name == "top_k" else x for name, x in options.items()})
    chances = distribution(**options)
    assert 1 < (chances > 0).sum() <= 10
    if options.keys() & {"top_k", "top_p", "min_p"}:
        assert (chances == 0).any()
    tokens = draw(sampling)
    assert chi_squared(tokens, chances) < critical(int((chances > 0).sum()) - 1)


def test_the_chi_squared_test_can_fail() -> None:
    tokens = draw(Sampling())
    assert chi_squared(tokens, distribution(temperature=1.1)) > critical(9)


def test_what_is_rare_is_drawn_as_rarely() -> None:
    """Among 200,000 tokens of one in 400,000 each, and one of a half."""
    logits = torch.cat([torch.zeros(200_000), torch.tensor([math.log(200_000)])])
    generators = [torch.Generator().manual_seed(seed) for seed in range(64)]
    tokens = sample(logits.expand(64, -1), generators)
    assert 16 <= int((tokens == 200_000).sum()) <= 48
    assert len(set(tokens.tolist())) == int((tokens != 200_000).sum()) + 1


def test_a_row_draws_the_same_alone_and_in_any_batch() -> None:
    logits = torch.randn(5, 33)
    together = sample(logits, [torch.Generator().manual_seed(i) for i in range(5)])
    for i in (4, 0, 2):
        assert sample(logits[i : i + 1], [torch.Generator().manual_seed(i)]).item() == together[i]


def test_greedy_draws_nothing() -> None:
    logits, generator = torch.randn(3, 33), torch.Generator().manual_seed(0)
    before = generator.get_state()
    for greedy in (Sampling(temperature=0), Sampling(top_k=1, temperature=2.0, min_p=0.5)):
        chooser = Chooser(greedy, [], [generator] * 3, torch.zeros(3, 0))
        assert torch.equal(chooser.choose(logits), logits.argmax(-1))
        assert kept(filtered(logits, greedy)) == [[i] for i in logits.argmax(-1).tolist()]
    assert torch.equal(generator.get_state(), before)


def test_the_penalty_comes_before_the_choice_of_the_likeliest() -> None:
    chooser = Chooser(Sampling(temperature=0), [RepetitionPenalty(2.0)], [], torch.tensor([[0]]))
    assert chooser.choose(torch.tensor([[3.0, 2.0]])).tolist() == [1]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", -0.1), ("temperature", math.inf), ("temperature", math.nan), ("top_k", 0), ("top_p", 0.0),
        ("top_p", 1.1), ("min_p", -0.1), ("min_p", 1.5), ("repetition_penalty", 0.0),
    ],
)  # fmt: skip
def test_options_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{option} is {value}, expected"):
        Sampling(**{option: value})
