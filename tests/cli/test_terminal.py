"""Commands at a terminal: they say what they wait for, answer each line at once, remember lines and end with Ctrl-D."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.test_cli import make_run
from tests.cli.test_generate import LETTERS
from tests.cli.test_generate import make_run as make_writer
from transformer_zoo.cli import main
from transformer_zoo.tokenizers import CharacterTokenizer

ROOT = Path(__file__).parents[2]
SECONDS = 120


class Terminal:
    """A program at a terminal of its own, of which all that is shown is kept."""

    def __init__(self, words: list[str], state: Path, stdout: int | None) -> None:
        code = "import sys; from transformer_zoo.cli import main; sys.exit(main())"
        self.keyboard, side = pty.openpty()
        attributes = termios.tcgetattr(side)
        attributes[3] &= ~termios.ECHO  # what is typed is not shown twice
        termios.tcsetattr(side, termios.TCSANOW, attributes)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", "XDG_STATE_HOME": str(state)}
        self.program = subprocess.Popen(
            [sys.executable, "-c", code, *words], env=environment, stdin=side,
            stdout=side if stdout is None else stdout, stderr=side, start_new_session=True, preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(side)
        self.shown = ""

    def until(self, pattern: str) -> str:
        """What is shown up to this, and it is no longer looked at."""
        end = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.shown, re.S)):
            assert time.monotonic() < end, f"no {pattern!r} in {self.shown!r}"
            if select.select([self.keyboard], [], [], 1)[0]:
                try:
                    self.shown += os.read(self.keyboard, 4096).decode().replace("\r\n", "\n")
                except OSError:  # the program has ended
                    assert re.search(pattern, self.shown, re.S), f"no {pattern!r} in {self.shown!r}"
        seen, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return seen

    def type(self, keys: str) -> None:
        os.write(self.keyboard, keys.encode())

    def end(self, key: str) -> int:
        """The status after this key, which is pressed again where the program was not yet listening."""
        for _ in range(SECONDS):
            self.type(key)
            with suppress(subprocess.TimeoutExpired):
                return self.program.wait(1)
        raise AssertionError(f"{key!r} does not end it")


def _own_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(words: list[str], state: Path, stdout: int | None = None) -> Iterator[Terminal]:
    made = Terminal(words, state, stdout)
    try:
        yield made
    finally:
        made.program.kill()
        made.program.wait()
        os.close(made.keyboard)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), seed=0)


def translated(run: Path, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    (tmp_path / "line").write_text(line + "\n", encoding="utf-8")
    assert main(["translate", str(run), "--input", str(tmp_path / "line"), "--max-extra", "1"]) == 0
    return capsys.readouterr().out


def test_lines_are_asked_for_and_answered_remembered_and_ended(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat, dogs = (translated(run, line, tmp_path, capsys) for line in ("the cat", "two dogs"))
    command, history = ["translate", str(run), "--max-extra", "1"], tmp_path / "transformer-zoo" / "translate_history"
    with terminal(command, tmp_path) as screen:
        screen.until("Type a line to translate; Ctrl-D ends.\n.*> ")
        screen.type("the cat\n")
        assert cat in screen.until("> $")
        screen.type("two dogs\n")
        assert dogs in screen.until("> $")
        assert screen.end("\x04") == 0
    assert history.read_text("utf-8").splitlines() == ["the cat", "two dogs"]
    assert history.stat().st_mode & 0o077 == 0
    with terminal(command, tmp_path) as screen:
        screen.until("> $")
        screen.type("\x10\x10\n")  # twice back
        assert cat in screen.until("> $")
        assert screen.end("\x03") in (130, -signal.SIGINT)
        assert "Traceback" not in screen.until("$")


def test_answers_in_a_pipe_stay_plain_and_who_cannot_remember_does_without(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat = translated(run, "the cat", tmp_path, capsys)
    (state := tmp_path / "state").touch()  # no folder can be here
    answers, end = os.pipe()
    with terminal(["translate", str(run), "--max-extra", "1"], state, stdout=end) as screen:
        os.close(end)
        screen.until("Ctrl-D ends.\n> ")
        screen.type("the cat\n")
        screen.until("> ")
        assert screen.end("\x04") == 0
    with open(answers, "rb") as file:
        assert file.read().decode() == cat
    assert state.read_bytes() == b""


def test_generate_goes_on_from_each_line_and_says_what_is_wrong_with_one(tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "run", CharacterTokenizer(LETTERS))
    words = ["generate", str(writer), "--max-new-tokens", "5", "--seed", "1"]
    with terminal(words, tmp_path / "file" / "state") as screen:
        screen.until("Type how a text begins; Ctrl-D ends.\n.*> $")
        screen.type("once\n")
        assert re.search("once.{0,5}\n", screen.until("> $"), re.S)
        screen.type("ONCE\n")
        screen.until("error: .*character 'O'.*> $")
        screen.type("once\n")
        shown = screen.until("> $")
        assert "---" not in shown
        assert "ONCE" not in shown
        assert screen.end("\x04") == 0
