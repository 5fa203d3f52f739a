"""Parallel text: pairs of lines, read from two files, a TSV or JSON lines, and cleaned with a report."""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from transformer_zoo.characters import is_blank
from transformer_zoo.errors import UserError
from transformer_zoo.files import check_readable
from transformer_zoo.tokenizers.tokenizer import utf8

_BOM = b"\xef\xbb\xbf"
_LONGEST_LINE = 64 << 20


@dataclass(kw_only=True)
class ParallelFiles:
    """Where the pairs are: two aligned files, a TSV, or JSON lines. Each file is UTF-8, plain or .gz.
    >>> ParallelFiles(source="train.de", target="train.en").paths
    ['train.de', 'train.en']

    Args:
        source: File with one source sentence a line; needs `target`.
        target: File with one target sentence a line, line n the translation of the source's line n.
        tsv: File with one pair a line, columns separated by tabs.
        source_column: Column of the TSV that holds the source, counted from 1 (as in `cut -f`).
        target_column: Column of the TSV that holds the target, counted from 1.
        jsonl: File with one JSON object a line.
        source_key: Key of the source in each object; a dot goes one level down (`translation.en`).
        target_key: Key of the target in each object; a dot goes one level down.
        references: Files with further translations of the same lines, for a text that is scored: scores use all of
            them. A blank line means that there is none.
    """

    source: str | None = None
    target: str | None = None
    tsv: str | None = None
    source_column: int = 1
    target_column: int = 2
    jsonl: str | None = None
    source_key: str = "source"
    target_key: str = "target"
    references: list[str] = field(default_factory=list)

    def validate(self) -> None:
        """UserError: there is not exactly one form, a form is not complete, or a field has no effect in it."""
        two_files = self.source is not None or self.target is not None
        forms = {"source and target": two_files, "tsv": self.tsv is not None, "jsonl": self.jsonl is not None}
        if sum(forms.values()) != 1:
            have = " and ".join(name for name, there in forms.items() if there) or "nothing"
            raise UserError(f"parallel text: give source and target, or tsv, or jsonl; here is {have}")
        if two_files and (self.source is None or self.target is None):
            missing = "source" if self.source is None else "target"
            raise UserError(f"parallel text: {missing} is missing; source and target go together")
        for name in ("source_column", "target_column", "source_key", "target_key"):
            value, form = getattr(self, name), "jsonl" if name.endswith("key") else "tsv"
            if form == "tsv" and value < 1:
                raise UserError(f"{name}: {value} is not a column; columns count from 1")
            if getattr(self, form) is None and value != getattr(ParallelFiles, name):
                raise UserError(f"{name} is {value}, and has no effect without {form}: leave it out")

    @property
    def paths(self) -> list[str]:
        """All files, the references' last."""
        return [path for path in (self.source, self.target, self.tsv, self.jsonl, *self.references) if path is not None]

    def __str__(self) -> str:
        return self.tsv or self.jsonl or f"{self.source} and {self.target}"


@dataclass
class ParallelText:
    """Aligned sentences: `target[i]` translates `source[i]`.

    `line_numbers[i]` (int64, from 1) is the line that pair i came from; it stays with the pair when others are dropped.
    `name` says in messages where the text came from. `more[k][i]` translates `source[i]` too.
    >>> ParallelText(["ja", "nein"], ["yes", "no"]).line_numbers.tolist()
    [1, 2]
    """

    source: list[str]
    target: list[str]
    name: str = "parallel text"
    line_numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    more: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for side in (self.target, *self.more):
            if len(self.source) != len(side):
                raise UserError(f"{self.name}: {len(self.source)} source and {len(side)} target sentences")
        if not len(self.line_numbers):
            self.line_numbers = np.arange(1, len(self.source) + 1)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def checksum(self) -> str:
        """A checksum of all pairs that does not depend on how they are stored (some forms lose a carriage return at a
        line's end)."""
        total = xxh3_128()
        for side in (self.source, *self.references):
            for line in side:
                total.update(line.strip("\r\ufeff").encode("utf-8", "surrogatepass") + b"\n")
        return total.hexdigest()

    @property
    def references(self) -> list[list[str]]:
        """The references of translations: the target, and other translations of the source."""
        return [self.target, *self.more]

    def select(self, indices: NDArray[np.int64]) -> "ParallelText":
        """The pairs at these indices, in their order."""
        picked = indices.tolist()
        source, target, *more = ([side[i] for i in picked] for side in (self.source, self.target, *self.more))
        return ParallelText(source, target, self.name, self.line_numbers[indices], more)


def read_lines(path: str | Path) -> Iterator[str]:
    r"""The lines of a UTF-8 file, plain or .gz, without their ends. Only `\n` and `\r\n` end a line.

    A byte order mark at the start is skipped. A last line without an end counts.

    Raises:
        UserError: the file is missing, unreadable or a broken gzip; or a line is not UTF-8 or longer than any sentence
            (the message names the line).
    """
    for number, line in read_parts(path, _LONGEST_LINE):
        # A part may be up to three bytes shorter than asked for, if the next part has the rest of a character.
        if 4 * len(line) + 4 > _LONGEST_LINE < len(line.encode()) + 4:
            raise UserError(
                f"{path}:{number}: a line above {_LONGEST_LINE >> 20} MiB cannot be a sentence; cut it into lines"
            )
        yield line.removesuffix("\n").removesuffix("\r")


def read_parts(path: str | Path, size: int) -> Iterator[tuple[int, str]]:
    r"""The lines as in `read_lines`, with their ends and numbers (from 1); a long line in parts of at most `size`
    bytes."""
    path = Path(path)
    number, inside = 0, False
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        check_readable(path)
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            while raw := file.readline(size):
                number += not inside
                is_first = number == 1 and not inside
                inside = not raw.endswith(b"\n")
                yield number, decoder.decode(raw.removeprefix(_BOM) if is_first else raw, not inside)
            decoder.decode(b"", True)
    except UnicodeDecodeError:
        raise UserError(f"{path}:{number}: not UTF-8; convert the file to UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: broken gzip file after line {number} ({error})") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:  # of a NUL in the name
        raise UserError(f"{path}: not a file name") from None


def read_parallel(files: ParallelFiles) -> ParallelText:
    """Read all pairs. A blank line of a TSV or of JSON lines is an empty pair, which `clean` drops and counts.
    >>> read_parallel(ParallelFiles(tsv="pairs.tsv")).target
    ['yes', 'no']

    Raises:
        UserError: as for `read_lines`; the two files differ in length; a line has too few columns, is not a JSON object
            or lacks a key; or there are no pairs.
    """
    files.validate()
    if files.tsv is not None:
        source, target = _read_tsv(files, files.tsv)
    elif files.jsonl is not None:
        source, target = _read_jsonl(files, files.jsonl)
    else:
        source, target = read_aligned(files.paths[:2])  # validate() made sure of both
    if not source:
        raise UserError(f"{files}: empty, no sentence pairs")
    more = read_aligned(files.references)
    for path, lines in zip(files.references, more, strict=True):
        check_aligned({str(files): source, path: lines})
    return ParallelText(source, target, str(files), more=more)


def read_aligned(paths: Sequence[str | Path]) -> list[list[str]]:
    """The lines of files that translate each other line by line. UserError: as for `read_lines` and `check_aligned`."""
    columns = [list(read_lines(path)) for path in paths]
    check_aligned({str(path): lines for path, lines in zip(paths, columns, strict=True)})
    return columns


def check_aligned(columns: Mapping[str, Sequence[str]]) -> None:
    """Check that the columns, named by their files, have as many lines as the first. UserError: one has not."""
    (first, lines), *others = columns.items() or [("", "")]
    for name, other in others:
        if len(other) != len(lines):
            raise UserError(
                f"{first} has {len(lines)} lines and {name} has {len(other)}; "
                "line n of one must translate line n of the other"
            )


def _read_tsv(files: ParallelFiles, path: str) -> tuple[list[str], list[str]]:
    source, target = [], []
    need = max(files.source_column, files.target_column)
    for number, line in enumerate(read_lines(path), start=1):
        columns = [""] * need if is_blank(line) else line.split("\t")
        if len(columns) < need:
            raise UserError(f"{path}:{number}: {len(columns)} columns, but column {need} is asked for")
        source.append(columns[files.source_column - 1])
        target.append(columns[files.target_column - 1])
    return source, target


def _read_jsonl(files: ParallelFiles, path: str) -> tuple[list[str], list[str]]:
    rows = list(read_json_lines(path, (files.source_key, files.target_key)))
    # A sentence must stay one line when it is written out later.
    source, target = ([row[n].replace("\r\n", " ").replace("\n", " ") for row in rows] for n in range(2))
    return source, target


def read_json_lines(path: str | Path, keys: Sequence[str]) -> Iterator[list[str]]:
    """The texts under `keys` of the JSON object in each line; a blank line gives empty texts. UserError: there are
    none."""
    for number, line in enumerate(read_lines(path), start=1):
        if is_blank(line):
            yield [""] * len(keys)
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # a number of thousands of digits is a ValueError
            raise UserError(f"{path}:{number}: not JSON; each line must be one JSON object") from None
        yield [_value(row, key, f"{path}:{number}") for key in keys]


_KINDS = {type(None): "null", bool: "true or false", list: "a list", dict: "an object"}


def _value(row: object, key: str, where: str) -> str:
    value = row
    for part in [key] if isinstance(row, dict) and key in row else key.split("."):
        if not isinstance(value, dict):
            raise UserError(f"{where}: not a JSON object where {key!r} is looked up")
        if part not in value:
            raise UserError(f"{where}: no key {key!r}; here are {', '.join(map(repr, value)) or 'none'}")
        value = value[part]
    if not isinstance(value, str):
        raise UserError(f"{where}: {key!r} holds {_KINDS.get(type(value), 'a number')}, not text")
    utf8(value, f"{where}: {key!r}")
    return value
