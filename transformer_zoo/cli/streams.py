"""Text in and out of a command: UTF-8, files that appear only when they are complete, progress."""

import errno
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO, TypeVar

from tqdm import tqdm

from transformer_zoo.errors import UserError

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 30.0


def input_lines(path: Path | None) -> Iterator[str]:
    """Lines of a file (plain or .gz), or of standard input, without their ends.

    Raises:
        UserError: a file cannot be read, or a line is not UTF-8.
    """
    if path is not None:
        from transformer_zoo.data.parallel import read_lines

        yield from read_lines(path)
        return
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        try:
            yield raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"standard input:{number}: not UTF-8; convert it to UTF-8") from None


def windows(lines: Iterable[str], n: int) -> Iterator[list[str]]:
    """Lists of this many lines, each read when it is asked for."""
    rest = iter(lines)
    while window := list(islice(rest, n)):
        yield window


@contextmanager
def open_output(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that gets its name once it is complete.

    A path that is not a regular file (a pipe, a device, a link) is written to, and never replaced. After an error, what
    was written so far stays beside it, as NAME.something.part.
    """
    if path is None:
        yield sys.stdout
        return
    if path.is_symlink() or (path.exists() and not path.is_file()):
        with open(path, "w", encoding="utf-8", newline="\n", opener=_open_at_once) as file:
            yield file
        return
    from transformer_zoo.files import replacing, temporary_file

    part = temporary_file(path, f"{path.name[:50]}.")
    try:
        with open(part, "w", encoding="utf-8", newline="\n") as file:
            yield file
        with replacing(path) as new:
            part.replace(new)
    finally:
        if part.exists() and not part.stat().st_size:
            part.unlink()


def _open_at_once(path: str, flags: int) -> int:
    """As `os.open`, which would wait for a pipe's reader, perhaps for ever."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise UserError(f"{path}: nobody reads from this pipe; start what reads it first") from None
    os.set_blocking(descriptor, True)
    return descriptor


def with_progress(items: Iterable[T], what: str, total: int | None = None, *, shown: bool = True) -> Iterator[T]:
    """The items, with a progress bar on standard error if that is a terminal, otherwise with a line every half minute.

    `shown=False` says that the items themselves are written to standard output. If that is the same terminal, they show
    the progress.
    """
    if sys.stderr.isatty():
        hidden = not shown and sys.stdout.isatty()
        yield from tqdm(items, desc=what, total=total, unit=" lines", disable=hidden)
        return
    start = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        if (now := time.monotonic()) - last >= _SECONDS_BETWEEN_LINES:
            last = now
            of = "" if total is None else f" of {total}"
            print(f"{what}: {count}{of} lines, {count / (now - start):.1f} lines/s", file=sys.stderr, flush=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which gets its name once everything is there.

    Raises:
        UserError: there is something at `path` already.
    """
    from transformer_zoo.files import temporary_folder, umask

    path = path.absolute()
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise UserError(f"{path}: there is something already; remove it, or give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_folder(path.parent)
    try:
        yield part
        part.chmod(0o777 & ~umask())  # temporary folders are made for their owner alone
        if path.is_dir():
            path.rmdir()
        part.rename(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
