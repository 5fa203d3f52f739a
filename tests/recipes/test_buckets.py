"""The table of what buckets cost."""

import subprocess
import sys
from pathlib import Path


def test_a_row_for_each_budget(root: Path, tmp_path: Path) -> None:
    lines = [" ".join(["a", "bb", "ccc"][: 1 + i % 3]) + " dd" * (i % 7) for i in range(50)]
    for side in ("source", "target"):
        (tmp_path / side).write_text("\n".join(lines) + "\n")
    command = [sys.executable, "recipes/benchmarks/buckets.py", str(tmp_path / "source"), str(tmp_path / "target")]
    done = subprocess.run([*command, "--vocab_size", "16", "--epochs", "2"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    assert head[0] == "`training.batch_tokens`"
    assert [row[0] for row in rows] == ["1,024", "4,096", "8,192", "25,000"]
    for _, as_cut, in_buckets, less, more in rows:
        assert 1 <= int(in_buckets) <= int(as_cut)
        assert 0 <= float(less.rstrip("%")) < float(more.rstrip("%")) < 100
