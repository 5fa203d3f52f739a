"""The error that is meant for people, and how a command line shows it."""

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

# Characters that would move a terminal's cursor, colour it, end a line, or reverse the direction of writing.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 900  # characters of a message; the middle of a longer one is left out


class UserError(ValueError):
    """A mistake in the input. Its message is one line: what is wrong, where, and what to do about it.

    `status` is the exit status of a command line.
    >>> issubclass(UserError, ValueError)
    True
    """

    status = 1


class UsageError(UserError):
    """Options that do not go together."""

    status = 2


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Put the name of a recipe's field or section before an error's message."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{field}: {error}") from None


def escaped(text: str, but: str = "") -> str:
    r"""The text without characters that a terminal would obey: control characters, except `but`, become `\x1b` and the
    like."""
    return _UNPRINTABLE.sub(lambda x: x[0] if x[0] in but else x[0].encode("unicode_escape").decode(), text)


def printable(message: str) -> str:
    """A message as one readable line."""
    line = escaped(re.sub(r"\s*[\r\n]\s*", " ", message).replace("\t", " "))
    if len(line) > _LONGEST:
        half = _LONGEST // 2
        line = f"{line[:half]} ... {line[-half:]}"
    return line


class _Terminal:
    """A terminal that no control character reaches, whatever text, name or translation is written to it."""

    def __init__(self, stream: TextIO, but: str) -> None:
        self._stream, self._but = stream, but

    def write(self, text: str) -> int:
        return self._stream.write(escaped(text, self._but))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded_terminals() -> Iterator[None]:
    """Escape standard output and standard error if they are terminals; pipes and files get text unchanged."""
    streams = ((sys.stdout, ""), (sys.stderr, "\r"))  # with which a progress bar is drawn again
    out, err = (cast(TextIO, _Terminal(stream, but)) if stream.isatty() else stream for stream, but in streams)
    with redirect_stdout(out), redirect_stderr(err):
        yield


def run_program(work: Callable[[], object]) -> int:
    """Do the work of a command line and return its exit status; errors and warnings are lines on standard error.

    0; a UserError's status; 1 if the system refuses (a full disk, a folder without permission, no memory); 130 after
    Ctrl-C, 141 if nobody reads the output any more.
    """
    try:
        with guarded_terminals(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            work()
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has enough. Text still in the buffer would cause an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        return _say_error(str(error), error.status)
    except OSError as error:
        return _say_error(f"{error.filename or 'output'}: {error.strerror or error}")
    except MemoryError as error:
        return _say_error(f"there is not enough memory ({error})" if str(error) else "there is not enough memory")
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        return _say_error(f"there is not enough memory ({str(error).partition(': ')[2].partition('.')[0] or error})")
    return 0


def _say_error(message: str, status: int = 1) -> int:
    print(f"error: {printable(message)}", file=sys.stderr)
    return status


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    """One line for people, without the place in the code."""
    print(f"warning: {printable(str(message))}", file=sys.stderr)
