"""Learning rates, computed by hand."""

import math
from itertools import pairwise
from typing import Any

import pytest

from transformer_zoo.errors import UserError
from transformer_zoo.training.config import OptimizerConfig, ScheduleConfig
from transformer_zoo.training.schedule import (
    describe_schedule,
    inverse_sqrt,
    learning_rate,
    peak_rate,
    warmup_by_clock,
    warmup_of,
)

NAMES = ["noam", "inverse_sqrt", "constant", "linear", "cosine", "wsd"]


def rate(step: int, *, warmup: float = 10, last: float = 110, **fields: Any) -> float:
    return learning_rate(step, ScheduleConfig(**fields), peak=2.0, warmup=warmup, last=last)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(1, 512**-0.5 * 4000**-1.5), (4000, 512**-0.5 * 4000**-0.5), (100_000, 512**-0.5 * 100_000**-0.5)],
)
@pytest.mark.parametrize("warmup", [None, 4000])
def test_noam_is_the_papers_equation_3(step: int, expected: float, warmup: int | None) -> None:
    schedule = ScheduleConfig(name="noam", warmup=warmup)
    peak = peak_rate(OptimizerConfig(), schedule, d_model=512)
    assert learning_rate(step, schedule, peak=peak, warmup=4000, last=9) == pytest.approx(expected, rel=1e-12)
    tripled = ScheduleConfig(name="noam", warmup=warmup, factor=3.0)
    assert peak_rate(OptimizerConfig(), tripled, d_model=512) == pytest.approx(3 * peak, rel=1e-12)


def test_a_short_warmup_that_nobody_asked_for_does_not_raise_the_peak_of_noam() -> None:
    """The paper's curve would go up to (512 * 10)^-0.5 in a run of 200 updates, twenty times the paper's."""
    paper = (512 * 4000) ** -0.5
    assert peak_rate(OptimizerConfig(), ScheduleConfig(name="noam"), d_model=512) == pytest.approx(paper)
    given = ScheduleConfig(name="noam", warmup=10)
    assert peak_rate(OptimizerConfig(), given, d_model=512) == pytest.approx((512 * 10) ** -0.5)


def test_the_peak_is_what_is_given_or_the_papers_for_the_width() -> None:
    def peak(name: Any, *, d_model: int = 256, fine_tuning: bool = False, lr: float | None = None) -> float:
        optimizer = OptimizerConfig(name=name, lr=lr)
        return peak_rate(optimizer, ScheduleConfig(), d_model=d_model, fine_tuning=fine_tuning)

    paper = (256 * 4000) ** -0.5
    assert peak("adam") == peak("adamw") == pytest.approx(paper)
    assert peak("muon") == pytest.approx(6 * paper)
    assert peak("muon", d_model=1024) == pytest.approx(3 * paper)
    assert peak("adam", fine_tuning=True) == pytest.approx(paper / 10)
    assert {peak(name, lr=0.5, fine_tuning=True) for name in ("adam", "muon")} == {0.5}


def test_inverse_sqrt_falls_from_its_peak() -> None:
    assert inverse_sqrt(4000, peak=2.0, warmup=4000) == 2.0
    assert inverse_sqrt(1000, peak=2.0, warmup=4000) == 0.5
    assert inverse_sqrt(16_000, peak=2.0, warmup=4000) == 1.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_the_first_update_is_made_at_a_learning_rate_above_zero(name: str, warmup: int) -> None:
    assert rate(1, name=name, warmup=warmup) > 0


@pytest.mark.parametrize(
    ("fields", "step", "expected"),
    [
        ({"name": "constant"}, 5, 1.0),
        ({"name": "constant"}, 77, 2.0),
        ({"name": "linear"}, 10, 2.0),
        ({"name": "linear"}, 60, 1.0),
        ({"name": "linear"}, 110, 0.0),
        ({"name": "linear", "final_ratio": 0.5}, 60, 1.5),
        ({"name": "linear", "final_ratio": 0.5}, 500, 1.0),
        ({"name": "cosine"}, 35, 1 + math.cos(math.pi / 4)),
        ({"name": "cosine"}, 110, 0.0),
        ({"name": "wsd", "decay": 20}, 90, 2.0),
        ({"name": "wsd", "decay": 20}, 105, 0.5),
        ({"name": "wsd"}, 88, 2.0),
        ({"name": "wsd"}, 99, 1.0),
    ],
)
def test_values_by_hand(fields: dict[str, Any], step: int, expected: float) -> None:
    assert rate(step, **fields) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("updates", "expected"), [(5, 10), (200, 10), (1320, 66), (80_000, 4000), (10**6, 4000)])
def test_warmup_is_a_twentieth_of_the_run(updates: int, expected: float) -> None:
    assert warmup_of(updates) == expected


def run_by_clock(name: str, seconds: list[float], limit: float) -> list[float]:
    """The rates of updates that take so long each, in a run of `limit` seconds; peak 1."""
    config, warmup, passed, rates = ScheduleConfig(name=name), 1.0, 0.0, []  # type: ignore[arg-type]
    for step, duration in enumerate(seconds, start=1):
        share = max(passed / limit, 1e-9)
        warmup = warmup_by_clock(step, before=warmup, share=share)
        rates.append(learning_rate(step, config, peak=1.0, warmup=warmup, last=step / share))
        if (passed := passed + duration) >= limit:
            break
    return rates


@pytest.mark.parametrize("name", NAMES)
def test_under_a_clock_of_even_steps_the_rates_are_those_of_as_many_updates(name: str) -> None:
    rates = run_by_clock(name, [0.01] * 2000, 20.0)
    assert len(rates) == 2000
    planned = [learning_rate(i, ScheduleConfig(name=name), peak=1.0, warmup=100, last=2000) for i in range(1, 2001)]  # type: ignore[arg-type]
    assert max(abs(a - b) for a, b in zip(rates, planned, strict=True)) < 0.02


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "seconds",
    [
        [20.0] + [0.05] * 1000,  # a first update that compiles
        [0.05] * 20 + [2.0] + [0.05] * 2000,  # a validation during warmup
        [0.05] * 300 + [0.2] * 1000,  # another program comes
        [0.4] * 60 + [0.01] * 10_000,  # or goes
        [0.001] * 100_000,
        [7.0] * 100,
    ],
)
def test_under_a_clock_the_rate_never_jumps_and_ends_where_time_does(name: str, seconds: list[float]) -> None:
    limit = 60.0
    rates = run_by_clock(name, seconds, limit)
    for step, (before, after) in enumerate(pairwise(rates)):
        rise, fall = after - before, before - after
        assert rise <= 1 / 10 + 1e-9
        # What a step takes of the time it may take of the rate, and of wsd's last fifth five times as much.
        assert fall <= 12 * max(seconds[step], seconds[step + 1]) / limit + 0.1
    if name in ("linear", "cosine", "wsd") and len(rates) > 20:
        assert rates[-1] <= 5 * seconds[len(rates) - 1] / limit + 1e-9
    assert max(rates) <= 1
    assert len(rates) < 10 or max(rates) > 0.9


def test_warmup_by_clock_stays_what_it_was_when_it_is_over() -> None:
    assert warmup_by_clock(51, before=50, share=0.5) == 50
    assert warmup_by_clock(51, before=50, share=0.001) == 50
    assert warmup_by_clock(1, before=1.0, share=1.0) == 10  # at least 10, however late it is
    assert warmup_by_clock(1, before=1.0, share=1e-9) == 4000  # at most 4,000, however early


def test_a_line_says_what_the_schedule_will_do() -> None:
    def words(minutes: float | None = None, warmup: float | None = None, **fields: Any) -> str:
        return describe_schedule(ScheduleConfig(**fields), peak=0.006, warmup=warmup, last=1320, minutes=minutes)

    assert words() == "learning rate (linear): up to 0.006 at update 66, then 0 at update 1,320"
    assert words(warmup=30, final_ratio=0.1).endswith("up to 0.006 at update 30, then 0.0006 at update 1,320")
    assert words(name="inverse_sqrt") == (
        "learning rate (inverse_sqrt): up to 0.006 at update 66, then 0.00134 at update 1,320"
    )
    assert words(warmup=4000).startswith("learning rate (linear): up to 0.00198 at update 1,320,")
    assert words(minutes=10) == (
        "learning rate (linear): up to 0.006 after a twentieth of 10 minutes, then 0 at the end of 10 minutes, or at "
        "update 1,320"
    )
    assert words(minutes=0.5, name="noam").endswith("then lower as step^-0.5 until the end of 0.5 minutes")


def test_updates_count_from_one() -> None:
    with pytest.raises(UserError, match="from 1, not 0"):
        rate(0)
