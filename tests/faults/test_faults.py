"""A short part of the faults in the fast suite; all of them in the slow one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .__main__ import KINDS, module_of
from .counts import Count, table

SHORT = {kind: module_of(kind).SHORT for kind in KINDS}


def faults(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.faults", *words]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", [kind for kind, n in SHORT.items() if n])
def test_a_short_part(kind: str, root: Path) -> None:
    done = faults(root, kind, "--n", str(SHORT[kind]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"\n{kind} " in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_whole(kind: str, root: Path) -> None:
    done = faults(root, kind)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unknown_kind_is_refused(root: Path) -> None:
    done = faults(root, "floods")
    assert done.returncode == 2
    assert "floods: no such kind" in done.stderr


def test_the_table_has_a_line_for_each_count() -> None:
    counts = [("kills", Count("gpt", 12, {"lost": 0, "different": 1}, {"while writing": 5}))]
    assert table(counts).splitlines() == [
        "kind   what  tried  bad",
        "kills  gpt   12     0 lost, 1 different  5 while writing",
    ]
