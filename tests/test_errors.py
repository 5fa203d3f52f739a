"""How a command line ends: a status, a line on standard error, never a traceback."""

import io
import sys
import warnings
from pathlib import Path

import pytest
import torch

from transformer_zoo.errors import UserError, printable, run_program


class Refused(UserError):
    status = 2


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (None, 0, ""),
        (UserError("field x"), 1, "error: field x\n"),
        (Refused("option x"), 2, "error: option x\n"),
        (PermissionError(13, "Permission denied", "run/file"), 1, "error: run/file: Permission denied\n"),
        (OSError("strange"), 1, "error: output: strange\n"),
        (KeyboardInterrupt(), 130, ""),
        (MemoryError(), 1, "error: there is not enough memory\n"),
        (UserError("a\x1b[31mred\rb\n  c\x85d\u202ee\0"), 1, "error: a\\x1b[31mred b c\\x85d\\u202ee\\x00\n"),
    ],
)
def test_an_error_is_a_status_and_a_line(
    error: BaseException | None, status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        if error is not None:
            raise error

    assert run_program(work) == status
    assert capsys.readouterr().err == told


def test_a_warning_is_a_line_without_the_place_in_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        warnings.simplefilter("always")
        warnings.warn("line 3 is long", stacklevel=1)

    assert run_program(work) == 0
    assert capsys.readouterr().err == "warning: line 3 is long\n"


def test_a_mistake_in_the_program_stays_visible() -> None:
    with pytest.raises(ZeroDivisionError):
        run_program(lambda: 1 / 0)


def test_memory_that_torch_cannot_have_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(lambda: torch.empty(1 << 50, dtype=torch.uint8)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: there is not enough memory (")
    assert error.count("\n") == 1


def test_a_long_message_keeps_its_ends() -> None:
    line = printable("start " + "x" * 100_000 + " end")
    assert line.startswith("start xx")
    assert line.endswith("xx end")
    assert len(line) < 1000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_control_character_gets_to_a_terminal_and_every_one_to_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = "".join(map(chr, range(0x20))) + "\x7f\x9b31m\u202e\u2066é ü 你"

    def work() -> None:
        print(text)
        print(text, file=sys.stderr)

    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert run_program(work) == 0
    for stream, harmless in ((out, "\t\n"), (err, "\t\n\r")):
        kept = {character for character in stream.getvalue() if not character.isprintable()}
        assert kept == set(harmless)
        assert stream.getvalue().endswith("é ü 你\n")
    with (tmp_path / "out").open("w", encoding="utf-8", newline="") as file:
        monkeypatch.setattr(sys, "stdout", file)
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert run_program(work) == 0
    assert (tmp_path / "out").read_bytes().decode() == text + "\n"
