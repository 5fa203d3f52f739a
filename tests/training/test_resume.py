"""Killed with SIGKILL, started again: the same final weights, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_anywhere_a_run_ends_with_the_same_weights(tmp_path: Path, root: Path) -> None:
    """In an update, while a checkpoint is half written, before and after each rename and removal."""
    command = [sys.executable, "-W", "error", str(HERE / "killed.py"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert result.stdout == "16 places\n"
