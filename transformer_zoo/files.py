"""Files that are there whole or not at all, whatever happens while they are written."""

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

if sys.platform != "win32":
    import fcntl


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with the name of a file beside `path`, syncs that file, and renames it to `path`.

    A failure leaves the old file as it was; who is killed on the way, also a `.part` that the next attempt overwrites.

    Raises:
        OSError: the system refuses; also where torch or safetensors found that out, which have errors of their own.
    """
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        os.chmod(part, 0o666 & ~umask())  # safetensors makes files that nobody else may read
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, RuntimeError) or type(error).__name__ == "SafetensorError":
            reason = str(error).partition("\n")[0]
            raise OSError(errno.EIO, f"cannot be written; is the disk full? ({reason})", str(path)) from None
        raise
    sync_folder(path.parent)


def lock(path: Path, *, wait: bool = True) -> IO[bytes]:
    """Opens this file and keeps other processes that do so out, where the system has locks, until it is closed.

    Raises:
        BlockingIOError: another process holds it, and nobody is to wait.
    """
    file = path.open("wb")
    try:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def umask() -> int:
    """The permissions that this process takes from new files."""
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes atomically."""
    write_atomically(path, lambda part: part.write_bytes(content))


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
