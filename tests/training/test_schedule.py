"""Learning rates, computed by hand."""

import math

import pytest

from transformer_zoo.errors import UserError
from transformer_zoo.training.config import ScheduleConfig
from transformer_zoo.training.schedule import inverse_sqrt, learning_rate, noam


def rate(step: int, **fields: object) -> float:
    config = ScheduleConfig(**fields)  # type: ignore[arg-type]
    return learning_rate(step, config, peak=2.0, d_model=512, max_updates=110)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(1, 512**-0.5 * 4000**-1.5), (4000, 512**-0.5 * 4000**-0.5), (100_000, 512**-0.5 * 100_000**-0.5)],
)
def test_noam_is_the_papers_equation_3(step: int, expected: float) -> None:
    assert noam(step, d_model=512, warmup=4000) == pytest.approx(expected, rel=1e-12)


def test_inverse_sqrt_is_the_noam_curve_named_by_its_peak() -> None:
    peak = noam(4000, d_model=512, warmup=4000, factor=3.0)
    for step in (1, 7, 3999, 4000, 4001, 50_000):
        expected = noam(step, d_model=512, warmup=4000, factor=3.0)
        assert inverse_sqrt(step, peak=peak, warmup=4000) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["noam", "inverse_sqrt", "constant", "linear", "cosine", "wsd"])
@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_the_first_update_is_made_at_a_learning_rate_above_zero(name: str, warmup: int) -> None:
    assert rate(1, name=name, warmup=warmup, decay=5) > 0


@pytest.mark.parametrize(
    ("fields", "step", "expected"),
    [
        ({"name": "constant", "warmup": 10}, 5, 1.0),
        ({"name": "constant", "warmup": 10}, 77, 2.0),
        ({"name": "linear", "warmup": 10}, 10, 2.0),
        ({"name": "linear", "warmup": 10}, 60, 1.0),
        ({"name": "linear", "warmup": 10}, 110, 0.0),
        ({"name": "linear", "warmup": 10, "final_ratio": 0.5}, 60, 1.5),
        ({"name": "linear", "warmup": 10, "final_ratio": 0.5}, 500, 1.0),
        ({"name": "cosine", "warmup": 10}, 35, 1 + math.cos(math.pi / 4)),
        ({"name": "cosine", "warmup": 10}, 110, 0.0),
        ({"name": "wsd", "warmup": 10, "decay": 20}, 90, 2.0),
        ({"name": "wsd", "warmup": 10, "decay": 20}, 105, 0.5),
    ],
)
def test_values_by_hand(fields: dict[str, object], step: int, expected: float) -> None:
    assert rate(step, **fields) == pytest.approx(expected, abs=1e-12)


def test_updates_count_from_one() -> None:
    with pytest.raises(UserError, match="from 1, not 0"):
        rate(0)
