"""The guard against slower commits: alternation, the verdict, and what it refuses."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from transformer_zoo.errors import UserError

from .shown import shown


@pytest.fixture(scope="module")
def guard() -> ModuleType:
    return import_module("recipes.benchmarks.guard")


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([0.98, 0.99, 1.0, 0.985, 0.99], "ok"),
        ([0.95, 0.96, 0.955, 0.96, 0.95], "slower"),
        ([0.9, 0.97, 1.0, 1.05, 1.1], "not judged"),
        ([0.969, 0.969, 0.97, 0.971, 0.971], "ok"),
        ([2.0, 2.01, 2.02], "ok"),
    ],
)
def test_the_verdict_goes_by_the_median_where_the_quartiles_are_close(
    guard: ModuleType, ratios: list[float], verdict: str
) -> None:
    assert guard.Measured("row", ratios, 1).verdict == verdict


def test_sides_alternate_and_restless_rows_are_measured_again(guard: ModuleType) -> None:
    asked: list[str] = []
    disturbed = [9.0] * (guard.TURNS - 1)  # a round goes by its fastest turn
    first, second = ([5.0, *disturbed, a, *disturbed, b] for a, b in ((1.0, 2.0), (1.5, 3.0)))
    times = iter([*first, *second] + [2.0] * 100)

    def old(row: str) -> float:
        asked.append("old")
        return next(times)

    def new(row: str) -> float:
        asked.append("new")
        return 1.0

    measured = guard.measure("beam float32", (old, new), 2, 3)
    assert asked[:6] == ["old", "new", "new", "old", "old", "new"]  # warm-up, then each begins in turn
    assert measured.ratios == [2.0, 2.0]
    assert (measured.attempts, measured.verdict) == (3, "ok")


def test_a_commit_that_is_not_there_is_refused(guard: ModuleType) -> None:
    with pytest.raises(UserError, match="--old no-such-commit"), guard.checkout("no-such-commit"):
        pass


@pytest.mark.slow
def test_this_commit_beside_itself(root: Path, tmp_path: Path) -> None:
    """Every row runs on both sides; how fast is not asked."""
    path = tmp_path / "guard.json"
    command = [sys.executable, "recipes/benchmarks/guard.py", "--old", "HEAD", "--rounds", "2", "--attempts", "1"]
    subprocess.run([*command, "--json", str(path)], cwd=root, capture_output=True, text=True, check=False)
    found = json.loads(path.read_text())
    assert "| GPT step bfloat16 |" in shown("guard", found, tmp_path)
    rows = found["rows"]
    assert [row["row"] for row in rows] == [
        f"{row} {precision}"
        for row in ("translation step", "GPT step", "greedy", "beam")
        for precision in ("float32", "bfloat16")
    ]
    assert all(ratio > 0 for row in rows for ratio in row["ratios"])
