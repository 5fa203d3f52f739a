"""Tokenized text on disk, memory-mapped, larger than memory. An unfinished file never looks finished.

A split is one file, `<split>.bin`. It has 1024 bytes of header (a line of JSON, with a checksum of the whole file, and
blanks), then the tokens as little-endian uint16 or uint32.
"""

import json
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from transformer_zoo.checksums import MARK, verify, write_sealed
from transformer_zoo.data.text import Piece, TextFiles
from transformer_zoo.errors import UserError
from transformer_zoo.files import lock, remove_leftovers
from transformer_zoo.tokenizers.tokenizer import Ids, Tokenizer

_FORMAT, _HEADER_BYTES = "transformer_zoo tokens 3", 1024
_DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
_COUNTS = ("n_tokens", "n_bytes", "n_documents")
_AGAIN = "tokenize the text again"
_GROUP = 1 << 18  # characters that one thread encodes at a time, or one longer piece


class TokenFile:
    """A split that `write_tokens` wrote, as one long row of tokens on the disk.
    >>> TokenFile("tokens", "train").take(np.arange(2)).tolist()  # T, o
    [84, 111]

    Attributes:
        n_tokens: Number of tokens, those between documents included.
        n_bytes: Number of bytes of the text in UTF-8, for bits per byte.
        n_documents: Number of documents.
        eos_id: The id after each document, or None.
        stamp: The stamp that `write_tokens` got.

    Raises:
        UserError: the split is missing or damaged, or was made with a tokenizer other than `tokenizer`.
    """

    def __init__(self, folder: str | Path, split: str, tokenizer: Tokenizer | None = None) -> None:
        self.path, self.split = Path(folder) / f"{split}.bin", split
        header = _read_header(self.path, split)
        self.n_tokens, self.n_bytes, self.n_documents = (int(header[name]) for name in _COUNTS)
        self.eos_id: int | None = header["eos_id"]
        self.fingerprint, self.stamp = str(header["tokenizer"]), str(header["stamp"])
        if tokenizer is not None and tokenizer.fingerprint != self.fingerprint:
            raise UserError(
                f"{self.path}: tokenized with {header['tokenizer_name']}, {self.fingerprint[:8]}, but the tokenizer is "
                f"{tokenizer.name}, {tokenizer.fingerprint[:8]}; {_AGAIN}"
            )
        self._tokens: NDArray[Any] = np.memmap(self.path, _DTYPES[header["dtype"]], "r", _HEADER_BYTES)

    def take(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """The tokens at these positions, in the positions' shape, uint16 or uint32."""
        return self._tokens[places]

    def verify(self) -> None:
        """Read everything and compare the checksum. UserError: the file was changed."""
        verify(self.path, remedy=_AGAIN)


def _read_header(path: Path, split: str) -> dict[str, Any]:
    """The fields of a header that fits its file."""
    try:
        with open(path, "rb") as file:
            header = json.loads(file.read(_HEADER_BYTES))
        texts = [header[name] for name in ("tokenizer", "tokenizer_name", "stamp", "checksum")]
        eos_id, size = header["eos_id"], _HEADER_BYTES + header["n_tokens"] * _DTYPES[header["dtype"]].itemsize
        fits = (header["format"], path.stat().st_size) == (_FORMAT, size)
        fits &= all(type(header[name]) is int and header[name] > 0 for name in _COUNTS)
        fits &= all(isinstance(text, str) for text in texts) and (eos_id is None or type(eos_id) is int)
    except FileNotFoundError:
        raise UserError(f"{path.parent}: no tokens of a split {split!r} here") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise UserError(f"{path}: damaged; {_AGAIN}")
    return header  # type: ignore[no-any-return]


def prepare_tokens(
    files: TextFiles, tokenizer: Tokenizer, folder: str | Path, split: str, *, workers: int = 0
) -> TokenFile:
    """The tokens of these files: those in `folder` if they come from the same text and are complete, otherwise new
    ones.

    If another process is making them, this one waits. A warning names damaged files. UserError: as for `write_tokens`.
    >>> prepare_tokens(TextFiles(path="pairs.tsv"), ByteTokenizer(), "tokens", "val").n_bytes
    15
    """
    folder, stamp = Path(folder), files.stamp()
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock"):
        remove_leftovers(folder)
        path = folder / f"{split}.bin"
        _check_ours(path)
        try:
            there = TokenFile(folder, split)
            if (there.stamp, there.fingerprint) == (stamp, tokenizer.fingerprint):
                there.verify()
                return there
        except UserError as error:
            if path.exists():
                warnings.warn(f"{error}; that is done now", stacklevel=2)
        total = files.n_bytes()
        return write_tokens(files.pieces(), tokenizer, folder, split, workers=workers, stamp=stamp, total=total)


def write_tokens(
    documents: Iterable[str | Piece],
    tokenizer: Tokenizer,
    folder: str | Path,
    split: str,
    *,
    workers: int = 0,
    stamp: str = "",
    total: int | None = None,
) -> TokenFile:
    """Tokenize documents and write them as a split.

    Each document begins with the tokenizer's `start_ids` and is followed by the end-of-text token if there is one.
    Documents are read when they are needed, and several threads encode them, which subword tokenizers allow. An
    interrupted call leaves the earlier file, or nothing that looks finished.
    >>> write_tokens(["Hi", "you"], ByteTokenizer(), "tokens", "val").n_tokens
    7

    Args:
        workers: Number of threads; 0 means one for each core.
        stamp: Says what the text was made from; kept as `TokenFile.stamp`.
        total: Number of bytes of text to come, if known, for the progress bar.

    Raises:
        UserError: the tokenizer cannot spell a document (the message names file and line), there is no text, or a file
            with the split's name is not a file of tokens.
    """
    path = Path(folder) / f"{split}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_ours(path)
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    about = {
        "checksum": MARK,
        "format": _FORMAT,
        "tokenizer": tokenizer.fingerprint,
        "tokenizer_name": tokenizer.name,
        "eos_id": tokenizer.eos_id,
        "dtype": dtype,
        "stamp": stamp,
    }
    groups = _encoded(documents, tokenizer, _DTYPES[dtype], workers or os.cpu_count() or 1)
    write_sealed(path, lambda part: _write(part, groups, split, about, total))
    return TokenFile(folder, split, tokenizer)


def _write(part: Path, groups: Iterable["_Encoded"], split: str, about: dict[str, Any], total: int | None) -> None:
    counts = dict.fromkeys(_COUNTS, 0)
    bar = tqdm(desc=f"tokenizing {split}", total=total, unit="B", unit_scale=True, disable=None, leave=False)
    with bar, part.open("rb+") as file:
        file.write(b" " * _HEADER_BYTES)
        for group in groups:
            file.write(group.tokens.tobytes())
            for name, count in zip(counts, (len(group.tokens), group.n_bytes, group.n_documents), strict=True):
                counts[name] += count
            bar.update(group.n_bytes)
        if not (counts["n_tokens"] and counts["n_bytes"]):
            raise UserError(f"{split}: there is no text to tokenize")
        header = json.dumps({**about, **counts}).encode()
        assert len(header) < _HEADER_BYTES
        file.seek(0)
        file.write(header.ljust(_HEADER_BYTES - 1) + b"\n")


def _check_ours(path: Path) -> None:
    """UserError: the existing file was not written by `write_tokens`, and may be somebody's text."""
    if path.exists():
        with path.open("rb") as file:
            if _FORMAT.encode() not in file.read(_HEADER_BYTES):
                raise UserError(f"{path} is in the way of tokens and not a file of them: give another folder for them")


class _Encoded(NamedTuple):
    tokens: Ids
    n_bytes: int
    n_documents: int


def _encoded(
    documents: Iterable[str | Piece], tokenizer: Tokenizer, dtype: "np.dtype[Any]", workers: int
) -> Iterator[_Encoded]:
    """Tokens of the documents in order; threads encode some groups in advance, so memory is bounded."""
    start = np.array(tokenizer.start_ids, dtype)
    end = np.array([] if tokenizer.eos_id is None else [tokenizer.eos_id], dtype)

    def encode(group: list[Piece], is_first: bool) -> _Encoded:
        parts = []
        for piece in group:
            if is_first:
                parts.append(start)
            is_first = piece.last
            try:
                parts.append(tokenizer.encode_array(piece.text).astype(dtype))
            except UserError as error:
                raise _located(piece, tokenizer, error) from None
            if piece.last:
                parts.append(end)
        n_bytes = sum(len(piece.text.encode()) for piece in group)
        return _Encoded(np.concatenate(parts), n_bytes, sum(piece.last for piece in group))

    pool = ThreadPoolExecutor(workers)
    pending: deque[Future[_Encoded]] = deque()
    is_first = True  # a document begins with the group
    try:
        for group in _groups(documents):
            pending.append(pool.submit(encode, group, is_first))
            is_first = group[-1].last
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _groups(documents: Iterable[str | Piece]) -> Iterator[list[Piece]]:
    group, size = [], 0
    for number, document in enumerate(documents, start=1):
        group.append(Piece(document, path=f"document {number}") if isinstance(document, str) else document)
        size += len(group[-1].text)
        if size >= _GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _located(piece: Piece, tokenizer: Tokenizer, error: UserError) -> UserError:
    """The error with the line that it is about."""
    for number, line in enumerate(piece.text.split("\n"), start=piece.line):
        try:
            tokenizer.encode_array(line)
        except UserError as of_line:
            return UserError(f"{piece.path}:{number}: {of_line}")
    return UserError(f"{piece.path}:{piece.line}: {error}")
