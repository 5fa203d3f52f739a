"""Files that exist completely or not at all, whatever happens while they are written; and where they may be written."""

import errno
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from transformer_zoo.errors import UserError

if sys.platform != "win32":
    import fcntl

_OURS = "transformer_zoo-"
_TEMPORARY = re.compile(rf"\.{_OURS}\w{{8}}\.part|\.tmp[A-Za-z0-9]{{6}}")  # the latter is safetensors'


def is_file_name(name: object) -> bool:
    """Whether this is a plain name for a file, without a path."""
    return isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*", name) is not None


def temporary_file(path: Path, prefix: str = f".{_OURS}") -> Path:
    """A new file beside `path` with a unique name. `remove_leftovers` recognises those without a prefix."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # nobody knows the temporary name
    os.close(descriptor)
    return Path(name)


def temporary_folder(folder: Path) -> Path:
    """A new folder in `folder`, named as `temporary_file` names files."""
    return Path(tempfile.mkdtemp(prefix=f".{_OURS}", suffix=".part", dir=folder))


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed. No other process may be writing in the folder."""
    with os.scandir(folder) as entries:
        left = [entry.path for entry in entries if _TEMPORARY.fullmatch(entry.name)]
    for path in left:
        if not os.path.isdir(path):
            os.unlink(path)


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """A new file beside `path`, to be written; at the end it is synced and gets the name `path`.

    A failure leaves the old file unchanged; a process that is killed also leaves a temporary file. If `path` is a
    symbolic link, the link is replaced, not its target. With `keep` the old file gets that name.

    OSError: the system refuses; this includes refusals that torch or safetensors report with errors of their own.
    """
    part = temporary_file(path)
    try:
        yield part
        os.chmod(part, 0o666 & ~umask())  # temporary files are made for their owner alone
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, RuntimeError) or type(error).__name__ == "SafetensorError":
            reason = str(error).partition("\n")[0]
            raise OSError(errno.EIO, f"cannot be written; is the disk full? ({reason})", str(path)) from None
        if isinstance(error, OSError) and error.filename == str(part):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    sync_folder(path.parent)


def make_folder(parent: Path, *names: str) -> Path:
    """The folder `parent`/`names`, created if necessary, which lies in `parent` and nowhere else.

    UserError: one of the names is a file, or a symbolic link, which is not followed for writing.
    """
    parent.mkdir(parents=True, exist_ok=True)
    path = parent
    for name in names:
        path = path / name
        if path.is_symlink():
            raise UserError(f"{path} is a symbolic link, and those in {parent} are not followed: put a folder there")
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError:
            raise UserError(f"{path} is in the way of a folder: move it elsewhere") from None
    return path


def check_folder(name: str, folder: Path) -> None:
    """Check that a folder can be created or written to. UserError: it cannot; the message calls it `name`."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{name}: {folder} cannot be written ({there} is not a folder, or not yours)")


def check_own(path: Path) -> None:
    """Check a file. UserError: it is a symbolic link, which is not followed for writing, or not a file."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"{path} is a symbolic link or not a file, and is not written to: move it elsewhere")


def open_own(path: Path, mode: str = "rb+") -> IO[bytes]:
    """Open a file that grows or is locked, created if necessary, but nothing that a link points to.

    A file with a second name (a hard link, which copies of whole folders may have) is separated from it first.
    UserError: as for `check_own`.
    """
    check_own(path)
    if path.exists() and path.stat().st_nlink > 1:
        write_bytes(path, path.read_bytes())
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), mode)


def lock(path: Path, *, wait: bool = True) -> IO[bytes]:
    """Open this file and exclude other processes that do the same, if the system has locks, until it is closed.

    BlockingIOError: another process holds it, and the caller does not want to wait. UserError: as for `open_own`.
    """
    file = open_own(path)
    try:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def umask() -> int:
    """The permissions that this process removes from new files."""
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut, if the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_readable(path: Path) -> None:
    """OSError: this is not a file that can be read to its end, but a folder, or a pipe that waits for a writer.

    The nameless pipe that a shell makes of `<(command)` is allowed.
    """
    kind = path.stat().st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(path))
    if stat.S_ISFIFO(kind) and path.resolve().exists():
        raise OSError(errno.ESPIPE, "is a named pipe, not a file", str(path))


def refuse_pointer(path: Path) -> None:
    """UserError: the file is the pointer that stands for a large file in a repository cloned without git-lfs."""
    with path.open("rb", buffering=0) as file:
        head = file.read(len(_POINTER))
    if head == _POINTER:
        raise UserError(
            f"{path} is a pointer of git-lfs, not the file itself: run `git lfs install` and `git lfs pull` in its "
            "folder, or download the file"
        )


_POINTER = b"version https://git-lfs.github.com/spec/"


def read_bytes(path: Path) -> bytes:
    """The whole content of a file. OSError: as for `check_readable`, or the system refuses; UserError: as for
    `refuse_pointer`."""
    check_readable(path)
    refuse_pointer(path)
    return path.read_bytes()


def json_object(content: bytes, path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file. UserError: it is not one; the message says what can be done."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise UserError(f"{path} is damaged, it is not a JSON object: {remedy}")
    return fields


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
