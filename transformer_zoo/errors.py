"""The error that is meant for people, and how a command line shows it."""

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any


class UserError(ValueError):
    """A mistake in the input. Its message is one line: what is wrong, where, and what to do about it.

    `status` is what a command line ends with.
    """

    status = 1


def run_program(work: Callable[[], object]) -> int:
    """Does the work of a command line and returns its exit status; errors and warnings are lines on standard error.

    0; a UserError's status; 1 where the system refuses (a full disk, a folder that may not be written); 130 after
    Ctrl-C, 141 if nobody reads the output any more.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            work()
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read this has enough. What is still in the buffer would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"error: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    """One line for people, without the place in the code."""
    print(f"warning: {message}", file=sys.stderr)
