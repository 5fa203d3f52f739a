"""Lines that somebody types into a terminal, each of which is answered immediately."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from transformer_zoo.errors import UserError, printable

T = TypeVar("T")
PROMPT = "> "
_REMEMBERED = 1000  # number of lines


def is_typed(input: Path | None = None) -> bool:
    """Whether text comes from a keyboard, because no file is given."""
    return input is None and sys.stdin.isatty()


def typed_lines(command: str, wanted: str) -> Iterator[str]:
    """Each typed line, without its end, until Ctrl-D; a message first says what is `wanted`.

    If standard output is a terminal too, lines can be edited, and the arrow keys bring back earlier ones, also those of
    other days. The user's state folder has a file of them for each command, if it can be written.
    """
    print(f"{wanted}; Ctrl-D ends.", file=sys.stderr, flush=True)
    read = _edited(command) if sys.stdout.isatty() else _plain
    while True:
        try:
            line = read()
        except (EOFError, KeyboardInterrupt) as end:
            print(file=sys.stderr)
            if isinstance(end, KeyboardInterrupt):
                raise
            return
        yield line


def answered(answer: Callable[[Iterator[str]], Iterator[T]], lines: Iterator[str]) -> Iterator[T]:
    """The answers to lines. A mistake in one is reported, and the next line is asked for."""
    while True:
        found = answer(lines)
        try:
            yield from found
            return
        except UserError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)


def _plain() -> str:
    """A line when answers go elsewhere; the prompt sign then goes to standard error."""
    print(PROMPT, end="", file=sys.stderr, flush=True)
    if not (line := sys.stdin.readline()):
        raise EOFError
    return line.removesuffix("\n")


def _edited(command: str) -> Callable[[], str]:
    """A reader of lines that can be edited and are remembered, as far as the system allows."""
    try:
        import readline
    except ImportError:
        return lambda: input(PROMPT)
    history = _history_file(command)
    with suppress(OSError):  # without permission nothing is remembered
        readline.set_history_length(_REMEMBERED)
        readline.read_history_file(history)

    def read() -> str:
        line = input(PROMPT)
        with suppress(OSError, AttributeError):  # macOS's readline has no such function
            readline.append_history_file(1, history)
        return line

    return read


def _history_file(command: str) -> Path:
    """The file in which lines are remembered, readable by its owner only if possible."""
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    path = state / "transformer-zoo" / f"{command}_history"
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT, 0o600))
    return path
