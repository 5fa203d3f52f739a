"""Lines that somebody types into a terminal, each of which is answered at once."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from transformer_zoo.errors import UserError, printable

T = TypeVar("T")
PROMPT = "> "
_REMEMBERED = 1000  # lines


def is_typed(input: Path | None = None) -> bool:
    """Whether text comes from a keyboard, since there is no file."""
    return input is None and sys.stdin.isatty()


def typed_lines(command: str, wanted: str) -> Iterator[str]:
    """Each line that is typed, without its end, until Ctrl-D; first it is said what is `wanted`.

    Where standard output is a terminal too, lines can be edited, and earlier ones come back with the arrow keys, those
    of other days too: a file of the user's state folder has those of each command, where one can be written.
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
    """The answers to lines; what is wrong with one is said, and the next one is asked for."""
    while True:
        found = answer(lines)
        try:
            yield from found
            return
        except UserError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)


def _plain() -> str:
    """A line, where the answers go elsewhere: so does the prompt sign."""
    print(PROMPT, end="", file=sys.stderr, flush=True)
    if not (line := sys.stdin.readline()):
        raise EOFError
    return line.removesuffix("\n")


def _edited(command: str) -> Callable[[], str]:
    """What reads a line that can be edited and is remembered, as far as the system can."""
    try:
        import readline
    except ImportError:
        return lambda: input(PROMPT)
    history = _history_file(command)
    with suppress(OSError):  # who cannot remember does without
        readline.set_history_length(_REMEMBERED)
        readline.read_history_file(history)

    def read() -> str:
        line = input(PROMPT)
        with suppress(OSError, AttributeError):  # macOS's readline has no such function
            readline.append_history_file(1, history)
        return line

    return read


def _history_file(command: str) -> Path:
    """Where lines are remembered; made for its owner alone, where it can be."""
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    path = state / "transformer-zoo" / f"{command}_history"
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT, 0o600))
    return path
