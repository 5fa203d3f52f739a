"""A process whose partner is gone ends, soon and with one line; one that is busy for long is alive."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from transformer_zoo.training import heartbeat
from transformer_zoo.training.heartbeat import IDLE, INTERVAL, PROBES, Heartbeat

from .test_distributed import free_port

PROGRAM = """
import ctypes, os, signal, sys, time
from pathlib import Path
import torch
from transformer_zoo.errors import UserError
from transformer_zoo.training import distributed, heartbeat

heartbeat.IDLE, heartbeat.INTERVAL, heartbeat.PROBES, heartbeat.GRACE = 1, 1, 1, 1.0
sys.path.insert(0, sys.argv[1])
rank = int(os.environ["RANK"])

def wait_for_the_other():
    distributed.all_sum(torch.ones(1))

def run_for_ever():
    Path(sys.argv[2], f"ready_{rank}").touch()
    while True:
        wait_for_the_other()
        time.sleep(0.01)

def busy():
    from toy import toy_run, toy_task
    task = toy_task()
    measure = task.validate
    def validate():
        time.sleep(2.5)
        ctypes.PyDLL(None).sleep(4)  # no other thread of Python runs meanwhile
        return measure()
    task.validate = validate
    print(toy_run(Path(sys.argv[2], "run"), task, max_updates=6))

def fail():
    wait_for_the_other()
    if rank == 1:
        raise UserError("line 7 is no text")
    wait_for_the_other()

def die_in_an_update():
    wait_for_the_other()
    if rank == 1:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3600)  # not even in an exchange

def work():
    distributed.start(distributed.World(rank, 2), torch.device("cpu"))
    globals()[sys.argv[3]]()

sys.exit(distributed.run(work))
"""


def start(tmp_path: Path, root: Path, what: str) -> list[subprocess.Popen[str]]:
    """Two processes that do `what`."""
    (tmp_path / "program.py").write_text(PROGRAM)
    shared = {"PYTHONPATH": str(root), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(tmp_path / "program.py"), str(Path(__file__).parent), str(tmp_path), what]
    return [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]


def ends(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit status and standard error of each."""
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
        return [(process.returncode, lines) for process, lines in zip(processes, said, strict=True)]
    finally:
        for process in processes:
            process.kill()


def test_a_silent_partner_is_missed_within_a_minute() -> None:
    assert IDLE + INTERVAL * PROBES < 60
    left, right = socket.create_server(("127.0.0.1", 0)), socket.socket()
    with left, right:
        heartbeat.keep_alive(right)
        assert right.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            asked = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [right.getsockopt(socket.IPPROTO_TCP, name) for name in asked] == [IDLE, INTERVAL, PROBES]


@pytest.mark.parametrize("dead", [0, 1])
def test_who_waits_for_a_process_that_was_killed_ends_with_one_line(tmp_path: Path, root: Path, dead: int) -> None:
    processes = start(tmp_path, root, "run_for_ever")
    last = time.monotonic() + 300
    while not all((tmp_path / f"ready_{rank}").exists() for rank in (0, 1)) and time.monotonic() < last:
        time.sleep(0.01)
    killed = time.monotonic()
    os.kill(processes[dead].pid, signal.SIGKILL)
    found = ends(processes)
    assert time.monotonic() - killed < 60
    assert found[dead] == (-signal.SIGKILL, "")
    status, said = found[1 - dead]
    assert status == 1
    assert said.startswith(f"error: process {dead} has died, and so this one ends; the same command goes on")
    assert said.count("\n") == 1


def test_who_computes_alone_ends_too(tmp_path: Path, root: Path) -> None:
    (status, said), _ = ends(start(tmp_path, root, "die_in_an_update"))
    assert (status, said.count("\n")) == (1, 1), said


def test_the_failure_of_one_is_told_by_that_one(tmp_path: Path, root: Path) -> None:
    other, failed = ends(start(tmp_path, root, "fail"))
    assert failed == (1, "error: line 7 is no text\n")
    assert other[0] == 1
    assert other[1].startswith("error: process 1 has failed, and so this one ends")
    assert other[1].count("\n") == 1


def test_a_process_that_validates_for_long_is_alive(tmp_path: Path, root: Path) -> None:
    """Longer than a silent partner is waited for, and for most of it so busy that no other thread runs."""
    processes = start(tmp_path, root, "busy")
    assert ends(processes) == [(0, ""), (0, "")]
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_strangers_are_not_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who connects without the secret of the run neither joins nor ends it."""
    shared: dict[str, tuple[int, bytes]] = {}
    told = threading.Event()

    def share(address: tuple[int, bytes]) -> tuple[int, bytes]:
        if address[0]:
            shared["address"] = address
            told.set()
        told.wait()
        return shared["address"]

    made: list[Heartbeat] = []
    first = threading.Thread(target=lambda: made.append(Heartbeat(0, 2, "127.0.0.1", share)))
    first.start()
    told.wait()
    with socket.create_connection(("127.0.0.1", shared["address"][0])) as stranger:
        stranger.sendall(b"x" * 20)
        second = Heartbeat(1, 2, "127.0.0.1", share)
        first.join()
        assert stranger.recv(1) == b""
    assert list(made[0].peers.values()) == [1]
    for side in (*made, second):
        side.leave(failed=False)
        assert side.gone is None
    for side in (*made, second):
        side.watcher.join(60)  # it has heard that the other one ends in order
        assert not side.watcher.is_alive()
    for side in (*made, second):
        for peer in side.peers:
            peer.close()
