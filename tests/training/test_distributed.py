"""Two processes with gloo make the updates that one makes with twice the micro-batches."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from transformer_zoo.errors import UserError
from transformer_zoo.training import distributed

from .toy import toy_run

HERE = Path(__file__).parent


def test_one_process_needs_no_group() -> None:
    assert distributed.world() == distributed.World(0, 1, 0)
    assert distributed.broadcast({"a": 1}) == {"a": 1}
    assert distributed.any_of(True)
    assert distributed.all_sum(torch.tensor(3.0)).item() == 3.0


def test_a_lone_process_is_the_first() -> None:
    with distributed.first() as mine:
        assert mine
    with pytest.raises(UserError, match="once"), distributed.first():
        raise UserError("once")


def test_torchruns_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert distributed.world() == distributed.World(5, 8, 1)
    assert not distributed.world().main


def two_processes(run_dir: Path, root: Path, *words: str) -> None:
    """The toy run `words` on two processes."""
    for status, output in outcomes([str(HERE / "toy.py"), str(run_dir), *words], root):
        assert status == 0, output


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def outcomes(command: list[str], root: Path) -> list[tuple[int, str]]:
    """Exit status and output of each of two processes."""
    shared = {"PYTHONPATH": str(root), "WORLD_SIZE": "2"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=100)[0] for process in processes]
        return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]
    finally:
        for process in processes:
            process.kill()


def test_two_processes_update_as_one_does(tmp_path: Path, root: Path) -> None:
    # Dropout is included: its seed belongs to the micro-batch, on every process. With a limit in minutes that is never
    # reached, the processes also agree on the clock in each update.
    two_processes(tmp_path / "two", root, "2", "max_minutes=60")
    toy_run(tmp_path / "one", accumulate=4)
    one, two = (load_file(tmp_path / run / "model.safetensors") for run in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-9, atol=1e-12)
    lines = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("one", "two")]
    assert len(lines[0]) == len(lines[1])
    rates = [[json.loads(line).get("lr") for line in run] for run in lines]
    assert rates[0] == rates[1]


FAILING = """
import sys
import torch
from transformer_zoo.errors import UserError
from transformer_zoo.training import distributed

def main():
    distributed.start(distributed.world(), torch.device("cpu"))
    with distributed.first() as mine:
        print("first" if mine else "other", flush=True)
    with distributed.first() as mine:
        if mine:
            raise UserError("line 7 is no text")
    print("not reached")

sys.exit(distributed.run(main))
"""


def test_where_the_first_process_fails_it_alone_says_why(tmp_path: Path, root: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    found = outcomes([str(tmp_path / "failing.py")], root)
    assert found == [(1, "first\nerror: line 7 is no text\n"), (1, "other\n")]
