"""`transformer-zoo`: what you do with a trained run."""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from transformer_zoo.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line. Exit status: 0, 1 for an error in the input, 2 for one in the options."""
    from transformer_zoo.cli import commands
    from transformer_zoo.cli.options import run_command

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                encoding="utf-8", errors="backslashreplace" if stream is sys.stderr else "strict"
            )
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            run_command(
                (commands.translate, commands.evaluate, commands.score, commands.average),
                sys.argv[1:] if arguments is None else arguments,
                prog="transformer-zoo",
                description="Translate with a trained run, score it, average its checkpoints.",
            )
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read this has enough. What is still in the buffer would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, commands.UsageError) else 1
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"error: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    """One line for people, without the place in the code."""
    print(f"warning: {message}", file=sys.stderr)
