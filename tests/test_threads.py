"""The number of threads follows the cores that are to be had: simulated machines, then this one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from transformer_zoo import threads
from transformer_zoo.threads import LONGEST_PATIENCE, PATIENCE, Adapter, Reading, Threads


def chosen(most: int, cores: int, others: Callable[[float], float], seconds: float = 60.0) -> list[int]:
    """The number each half second on a machine of `cores`, where `others(t)` threads of others always want to run."""
    clock = own = idle = 0.0
    mine, numbers = Threads(most, Reading(0, 0, 0)), []
    while clock < seconds:
        wanted = mine.number + others(clock)
        share = min(1.0, cores / wanted)  # the system is fair to each thread
        own += 0.5 * share * mine.number
        idle += 0.5 * max(0.0, cores - wanted)
        clock += 0.5
        numbers.append(mine.choose(Reading(clock, own, idle)))
    return numbers


@pytest.mark.parametrize(("most", "cores"), [(2, 2), (4, 4), (8, 8), (16, 32), (64, 64)])
def test_alone_all_threads_compute(most: int, cores: int) -> None:
    assert set(chosen(most, cores, lambda t: 0.05)) == {most}


@pytest.mark.parametrize(
    ("cores", "others", "left"),
    [(2, 1, 1), (2, 2, 1), (2, 9, 1), (4, 1, 3), (4, 2, 2), (8, 4, 4), (8, 1, 7), (64, 32, 32)],
)
def test_beside_others_there_are_as_many_as_cores_are_left(cores: int, others: int, left: int) -> None:
    numbers = chosen(cores, cores, lambda t: others)
    assert left <= numbers[-1] <= 1.2 * left
    assert len(set(numbers[20:])) == 1  # and it stays so


@pytest.mark.parametrize("most", [2, 4, 8, 16])
def test_two_programs_share_the_cores(most: int) -> None:
    programs = [Threads(most, Reading(0, 0, 0)) for _ in range(2)]
    own, idle = [0.0, 0.0], 0.0
    for step in range(1, 100):
        wanted = sum(program.number for program in programs)
        idle += 0.5 * max(0, most - wanted)
        own = [t + 0.5 * p.number * min(1.0, most / wanted) for t, p in zip(own, programs, strict=True)]
        for program, used in zip(programs, own, strict=True):
            program.choose(Reading(0.5 * step, used, idle))
    assert [program.number for program in programs] == [most // 2, most // 2]


@pytest.mark.parametrize("cores", [2, 4, 8, 16, 64])
def test_when_the_others_end_the_threads_are_back(cores: int) -> None:
    numbers = chosen(cores, cores, lambda t: cores if t < 20 else 0)
    assert 1 <= numbers[39] <= cores // 2
    again = numbers[int((20 + PATIENCE) / 0.5) + 2 :]
    assert min(again) == max(again) >= 0.9 * cores


def test_others_that_come_and_go_make_it_more_patient() -> None:
    """A pause of 3 seconds in every 10: after some times it is no longer used."""
    numbers = chosen(2, 2, lambda t: 0 if t % 10 < 3 else 2, seconds=600)
    changes = [later - earlier for earlier, later in pairwise(numbers)]
    assert changes[: len(changes) // 10].count(1) >= 1
    assert sum(map(abs, changes)) < 20
    assert LONGEST_PATIENCE <= 60


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def machine(monkeypatch: pytest.MonkeyPatch, available: Callable[[float], float]) -> Adapter:
    """An adapter on a simulated machine, where a second passes between two calls."""
    clock, given = 0.0, 0.0

    def read() -> Reading:
        nonlocal clock, given
        clock += 1.0
        given += available(clock)
        return Reading(clock, given, 0.0)

    times = iter(range(1, 10_000))
    monkeypatch.setattr(threads.time, "monotonic", lambda: float(next(times)))
    monkeypatch.setattr(threads.time, "sleep", lambda seconds: None)
    return Adapter(read, Reading(0.0, 0.0, 0.0))


def test_a_change_is_made_and_said_in_one_line(
    two_threads: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adapt = machine(monkeypatch, lambda t: 1.0 if t < 5 else 2.0)
    adapt()
    assert torch.get_num_threads() == 1
    for _ in range(20):
        adapt()
    assert torch.get_num_threads() == 2
    assert capsys.readouterr().err.splitlines() == [
        "1 thread instead of 2: other programs need the cores",
        "2 threads instead of 1: cores are free again",
    ]


def test_a_number_that_somebody_sets_is_the_most(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    adapt = machine(monkeypatch, lambda t: 8.0)
    adapt()
    torch.set_num_threads(1)
    for _ in range(20):
        adapt()
    assert torch.get_num_threads() == 1
    torch.set_num_threads(3)
    for _ in range(20):
        adapt()
    assert torch.get_num_threads() == 3


FIXED = "import json, transformer_zoo.threads as t; print(json.dumps(t.adapt.start is None))"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("fixed", [True, False])
def test_the_environment_fixes_the_number(root: Path, fixed: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"PYTHONPATH": str(root), **({"OMP_NUM_THREADS": "2"} if fixed else {})}
    said = subprocess.check_output([sys.executable, "-c", FIXED], env=environment, text=True)
    assert json.loads(said) == fixed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_counters_count_this_machine() -> None:
    first = threads.read()
    assert first is not None
    while (later := threads.read()) is not None and later.own - first.own < 0.1:
        torch.ones(100).sum()
    assert later is not None
    cores = len(os.sched_getaffinity(0))
    assert 0 < later.own - first.own + later.idle - first.idle <= cores * (later.clock - first.clock) + 0.05 * cores
