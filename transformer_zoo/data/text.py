"""Plain text as a stream of documents, from files, folders and JSON lines, which may be larger than memory."""

import glob
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from xxhash import xxh3_128

from transformer_zoo.characters import is_blank
from transformer_zoo.data.parallel import read_json_lines, read_parts
from transformer_zoo.errors import UserError
from transformer_zoo.files import check_readable

_JSON_LINES = (".jsonl", ".jsonl.gz")
_PART = 1 << 20  # bytes of a line that are read at a time
_PIECE = 1 << 20  # characters; a longer document comes in pieces of about this size
# Where a document is cut: the patterns of GPT-2 and its successors never join a letter and the white space after it, so
# the tokens of the pieces are those of the whole.
_CUT = re.compile(r"[^\W\d_](?=\s)")


class Piece(NamedTuple):
    """A document, or a piece of one; `last` says that it ends here. The text begins in line `line` of `path`.
    >>> write_tokens([Piece("To be,", last=False), Piece(" or not")], ByteTokenizer(), "tokens", "val").n_documents
    1
    """

    text: str
    last: bool = True
    path: str = "text"
    line: int = 1


@dataclass(kw_only=True)
class TextFiles:
    """Where the text is. Files are UTF-8, plain or .gz, and may be larger than memory.
    >>> TextFiles(path="pairs.tsv").n_bytes()
    15

    Args:
        path: A file; a folder, which stands for all files in it and below, except hidden ones; a pattern such as
            `books/**/*.txt`; or a list of these.
        jsonl_key: Read every file as JSON lines: one document a line, its text under this key (a dot goes one level
            down). Files named .jsonl are always read in this way, with the key `text` by default.
        separator: Line that stands between two documents of a plain file, such as `<|endoftext|>`. By default a file is
            one document.
    """

    path: str | list[str]
    jsonl_key: str | None = None
    separator: str | None = None

    def files(self) -> list[Path]:
        """The files, ordered by name under each path. UserError: a path does not exist."""
        return [file for path in self._paths() for file in _files(path)]

    def folder_around(self, place: Path) -> str | None:
        """The path that is a folder with `place` in it, whose files would be read as text; None if there is none."""
        folders = [path for path in self._paths() if Path(path).expanduser().is_dir()]
        inside = (path for path in folders if place.resolve().is_relative_to(Path(path).expanduser().resolve()))
        return next(inside, None)

    def _paths(self) -> list[str]:
        paths = [self.path] if isinstance(self.path, str) else self.path
        if not paths or "" in paths:
            raise UserError("path is empty: name a file, a folder or a pattern")
        return paths

    def pieces(self) -> Iterator[Piece]:
        """All documents in order; those above a million characters come in pieces. Blank documents are left out.

        UserError: as for `files`, `read_lines` and `read_json_lines`, or there is no text at all.
        """
        found = False
        for path in self.files():
            is_json = self.jsonl_key is not None or path.name.endswith(_JSON_LINES)
            for piece in self._json_lines(path) if is_json else _plain(path, self.separator):
                found = True
                yield piece
        if not found:
            raise UserError(f"{self}: no text here")

    def texts(self) -> Iterator[str]:
        """The text of all `pieces`."""
        return (piece.text for piece in self.pieces())

    def documents(self) -> Iterator[str]:
        """All `pieces` joined to whole documents."""
        parts: list[str] = []
        for piece in self.pieces():
            parts.append(piece.text)
            if piece.last:
                yield "".join(parts)
                parts = []

    def n_bytes(self) -> int | None:
        """Number of bytes of the text, for a progress bar; None if only reading would tell."""
        files = self.files()
        exact = self.jsonl_key is None and not any(file.name.endswith((".gz", ".jsonl")) for file in files)
        return sum(file.stat().st_size for file in files) if exact else None

    def stamp(self) -> str:
        """A hash of the settings and of the content of every file, wherever the files are. Another text has another
        hash."""
        total = xxh3_128(repr((self.jsonl_key, self.separator)).encode())
        for file in self.files():
            total.update(repr((file.name.endswith(_JSON_LINES), file.suffix == ".gz", _content(file))).encode())
        return total.hexdigest()

    def __str__(self) -> str:
        return self.path if isinstance(self.path, str) else ", ".join(self.path)

    def _json_lines(self, path: Path) -> Iterator[Piece]:
        rows: Iterable[list[str]] = read_json_lines(path, [self.jsonl_key or "text"])
        for number, (text,) in enumerate(rows, start=1):
            if not is_blank(text):
                yield Piece(text, True, str(path), number)


def _content(path: Path) -> str:
    """A hash of a file's bytes on the disk."""
    try:
        check_readable(path)
        with path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, xxh3_128).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _files(name: str) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        found = [file for file in path.rglob("*") if not any(part[0] == "." for part in file.relative_to(path).parts)]
    else:
        found = [path] if path.exists() else [Path(match) for match in glob.glob(str(path), recursive=True)]
    if files := sorted(file for file in found if not file.is_dir()):
        return files
    raise UserError(f"{name}: {'no files in this folder' if path.is_dir() else 'no such file or pattern'}")


def _plain(path: Path, separator: str | None) -> Iterator[Piece]:
    lines: list[str] = []
    size, start, opened = 0, 1, False
    begun = 0
    for number, line in read_parts(path, _PART):
        is_whole, begun = number != begun, number
        if is_whole and separator is not None and line.rstrip("\r\n") == separator:
            if opened or not all(map(is_blank, lines)):
                yield Piece("".join(lines), True, str(path), start)
            lines, size, start, opened = [], 0, number + 1, False
            continue
        lines.append(line)
        size += len(line)
        if size > _PIECE:
            head, tail = _cut("".join(lines))
            yield Piece(head, False, str(path), start)
            lines, size, start, opened = [tail], len(tail), start + head.count("\n"), True
    if opened or not all(map(is_blank, lines)):
        yield Piece("".join(lines), True, str(path), start)


def _cut(text: str) -> tuple[str, str]:
    """`text` in two parts, cut as late as possible between a letter and white space; or the whole and an empty part."""
    ends = [match.end() for match in _CUT.finditer(text, max(len(text) - 4096, 0))]
    place = ends[-1] if ends else len(text)
    return text[:place], text[place:]
