"""Checksums inside the files themselves, so that neither a crash nor a copy separates a file from its sum.

A file has the mark `xxh3-64:` and 16 hexadecimal digits among its first 4096 bytes or its last 64. The digits are the
XXH3 (Collet 2019) of the whole file with zeros instead of these digits. The format decides where the mark stands: a
field of JSON, a comment of YAML or of a zip file (torch.save), metadata of safetensors, an unknown field of
SentencePiece's protobuf. So other programs can read these files as before. Every bit of a file counts, those of the
mark too: without the mark, a file counts as one without a checksum.
"""

import io
import json
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xxhash import xxh3_64

from transformer_zoo.errors import UserError
from transformer_zoo.files import json_object, refuse_pointer, replacing

_DIGITS = 16
MARK = "xxh3-64:" + "0" * _DIGITS
"""What a writer puts in the place of the checksum."""
CHANGED = "put it back, or remove its first line if you changed it by hand"
"""Advice about a recipe that has changed since it was written."""

_FOUND = re.compile(rb"xxh3-64:([0-9a-f]{%d})" % _DIGITS)
_HEAD, _TAIL = 4096, 64
_LARGE = 16 << 20
_CHUNK = 1 << 18  # number of bytes that stay in the cache between reading and hashing


class UncheckedWarning(UserWarning):
    """A file without a checksum was read unchecked."""


def write_sealed(path: Path, write: Callable[[Path], object], keep: Path | None = None) -> None:
    """Call `write` with a new file, in which it puts MARK; then add the checksum and replace `path`, as `replacing`
    does."""
    with replacing(path, keep) as part:
        write(part)
        with part.open("rb+") as file, ThreadPoolExecutor(1) as pool:
            # While a large file's sum is computed, the disk already writes most of it.
            synced = pool.submit(os.fsync, file.fileno()) if part.stat().st_size > _LARGE else None
            at, _, digits = _measure(file)
            if synced is not None:
                synced.result()
            file.seek(at)
            file.write(digits.encode())


def verify(path: Path, *, remedy: str = "put it back from a copy", warn: bool = True) -> str | None:
    """Compare a file with the checksum in it, and return that; None if there is none, which `warn` reports.

    Raises:
        UserError: the file has changed since it was written, cannot be read, or is not a file. `remedy`: what can be
            done.
    """
    try:
        with _opened(path) as file:
            _, written, measured = _measure(file)
    except FileNotFoundError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if written is not None or warn:
        _judge(path, written, measured, remedy)
    return written


def read_sealed(path: Path, *, remedy: str = "put it back from a copy") -> bytes:
    """A file's content, compared as in `verify`, with the same UserError. FileNotFoundError: there is no such file."""
    with _opened(path) as file:
        content = file.read()
    _, written, measured = _measure(io.BytesIO(content))
    _judge(path, written, measured, remedy)
    return content


def write_fields(path: Path, fields: dict[str, Any]) -> None:
    """Write a JSON object with its checksum, atomically."""
    text = json.dumps({"checksum": MARK, **fields}, indent=1, ensure_ascii=True) + "\n"
    write_sealed(path, lambda part: part.write_bytes(text.encode()))


def read_fields(path: Path, *, remedy: str = "put it back from a copy") -> dict[str, Any]:
    """Read what `write_fields` wrote. UserError: as for `read_sealed`, or it is not a JSON object."""
    fields = json_object(read_sealed(path, remedy=remedy), path, remedy)
    fields.pop("checksum", None)
    return fields


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file without a buffer. Reading something else, such as a pipe that nobody writes to, would never end."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path}: not a regular file; put the file there")
        refuse_pointer(path)
        with open(path, "rb", buffering=0) as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _measure(file: IO[bytes]) -> tuple[int, str | None, str]:
    """Where the digits of an open file begin, their value (None: there are none), and the value that they should
    have."""
    size = file.seek(0, os.SEEK_END)
    for start, length in ((0, _HEAD), (max(0, size - _TAIL), _TAIL)):
        file.seek(start)
        if found := _FOUND.search(file.read(length)):
            break
    else:
        return 0, None, ""
    at = start + found.start(1)
    total, buffer = xxh3_64(), memoryview(bytearray(_CHUNK))
    for start, end in ((0, at), (at + _DIGITS, size)):
        file.seek(start)
        while start < end and (n := file.readinto(buffer[: end - start])):  # type: ignore[attr-defined]
            total.update(buffer[:n])
            start += n
        if end == at:
            total.update(b"0" * _DIGITS)
    return at, found[1].decode(), total.hexdigest()


def _judge(path: Path, written: str | None, measured: str, remedy: str) -> None:
    if written is None:
        warnings.warn(f"{path} carries no checksum; it is read as it is", UncheckedWarning, stacklevel=3)
    elif written != measured:
        raise UserError(f"{path} is damaged, or was changed after it was written (checksum): {remedy}")
