"""Every signal that asks a run to go ends it between two updates, and it goes on bit for bit."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from transformer_zoo.training.signals import IMPATIENT, STOP, StopSignals

from .toy import toy_run, toy_task

HERE = Path(__file__).parent
NUMBERS = [getattr(signal, name) for name in STOP if hasattr(signal, name)]
# The run of toy.py after something else: its own arguments follow.
TOY = "import fcntl, runpy, signal, sys, termios; sys.path.insert(0, {!r}); {}; runpy.run_path({!r}, None, '__main__')"


@pytest.fixture(autouse=True)
def _nothing_is_ignored() -> Iterator[None]:
    """Also not where the tests themselves are run under nohup."""
    ignored = [number for number in NUMBERS if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The weights of a run that nothing stopped."""
    run_dir = tmp_path_factory.mktemp("whole")
    toy_run(run_dir)
    return load_file(run_dir / "model.safetensors")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_saves_and_the_run_goes_on_bit_for_bit(tmp_path: Path, number: int, whole: dict[str, Any]) -> None:
    handlers = [signal.getsignal(n) for n in NUMBERS]
    task, load, calls = toy_task(), toy_task().load, 0

    def interrupted(entry: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 10:
            os.kill(os.getpid(), number)
        return load(entry)

    task.load = interrupted
    assert toy_run(tmp_path, task) == "signal"
    assert handlers == [signal.getsignal(n) for n in NUMBERS]
    assert not (tmp_path / "model.safetensors").exists()
    assert toy_run(tmp_path) == "max_updates"
    found = load_file(tmp_path / "model.safetensors")
    assert all(found[name].equal(value) for name, value in whole.items())


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_ignored_stays_ignored(number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), number)
            assert not signals.received
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_second_one_ends_the_process_only_where_somebody_is_in_a_hurry(number: int) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda number, frame: heard.append(number))
    try:
        with StopSignals() as signals:
            for _ in range(3):
                os.kill(os.getpid(), number)
            assert signals.received
    finally:
        signal.signal(number, before)
    assert heard == [number] * (2 if signal.Signals(number).name in IMPATIENT else 0)


def started(first: str, run_dir: Path, root: Path, **options: Any) -> subprocess.Popen[bytes]:
    """A run without end that has written its first checkpoint, in a process that did `first` before."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    code = TOY.format(str(HERE), first, str(HERE / "toy.py"))
    words = [sys.executable, "-c", code, str(run_dir), "1", "max_updates=1000000"]
    process = subprocess.Popen(words, env=environment, start_new_session=True, **options)
    last = time.monotonic() + 300
    while not (run_dir / "checkpoints" / "last.pt").exists() and time.monotonic() < last:
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="needs terminals")
@pytest.mark.parametrize("through_a_pipe", [False, True])
def test_a_closed_terminal_is_no_loss(tmp_path: Path, root: Path, through_a_pipe: bool) -> None:
    """Also not where what the run says goes to a program that ends with the terminal."""
    master, terminal = os.openpty()
    reader, writer = os.pipe()
    output = writer if through_a_pipe else terminal
    process = started(
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)", tmp_path, root, stdin=terminal, stdout=output, stderr=terminal
    )
    for descriptor in (writer, terminal, reader, master):
        os.close(descriptor)
    assert process.wait(timeout=300) == 0  # toy.py does not say that it was stopped
    assert not (tmp_path / "model.safetensors").exists()


def test_training_does_not_end_with_the_reader_of_its_output(tmp_path: Path, root: Path) -> None:
    reader, writer = os.pipe()
    process = started("pass", tmp_path, root, stdout=writer)
    os.close(writer)
    os.close(reader)
    time.sleep(0.3)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=300) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs nohup")
def test_under_nohup_a_run_does_not_hear_of_the_terminal(tmp_path: Path, root: Path) -> None:
    ignoring = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    process = started(ignoring, tmp_path, root, stdout=subprocess.DEVNULL)
    os.kill(process.pid, signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=300) == 0
