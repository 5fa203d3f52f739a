"""How a command line ends: a status, a line on standard error, never a traceback."""

import warnings

import pytest

from transformer_zoo.errors import UserError, run_program


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
