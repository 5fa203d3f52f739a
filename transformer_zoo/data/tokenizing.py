"""Text into tokens on disk, by threads, and so that nothing unfinished looks finished."""

import json
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from transformer_zoo.checksums import MARK, write_sealed
from transformer_zoo.data.text import Piece, TextFiles
from transformer_zoo.data.token_file import COUNTS, DTYPES, FORMAT, HEADER_BYTES, TokenFile
from transformer_zoo.errors import UserError
from transformer_zoo.files import lock, remove_leftovers
from transformer_zoo.tokenizers.tokenizer import Ids, Tokenizer

_GROUP = 1 << 18  # characters that one thread encodes at a time, or one piece if that is longer


def prepare_tokens(
    files: TextFiles, tokenizer: Tokenizer, folder: str | Path, split: str, *, workers: int = 0
) -> TokenFile:
    """The tokens of these files: as they lie in `folder` if they were made from the same and are whole, or made now.

    Another process that makes them meanwhile is waited for. Damaged ones are named in a warning.
    >>> prepare_tokens(TextFiles(path="pairs.tsv"), ByteTokenizer(), "tokens", "val").n_bytes
    15

    Raises:
        UserError: as `write_tokens`.
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

    Each begins with the tokenizer's `start_ids` and is followed by end-of-text where there is one. They are read as
    they are needed and encoded by threads, which the subword tokenizers let run side by side. An interrupted call
    leaves what was there before, or nothing that looks finished.
    >>> write_tokens(["Hi", "you"], ByteTokenizer(), "tokens", "val").n_tokens
    7

    Args:
        documents: Whole documents as strings, or `Piece`s.
        folder, split: Where the split goes, and its name, such as `train`.
        workers: Threads; 0 for one a core.
        stamp: Says what the text was made from; kept for `TokenFile.stamp`.
        total: Bytes of text to come, if known, for the progress bar.

    Raises:
        UserError: the tokenizer cannot spell a document (file and line are named), there is no text, or a file of the
            split's name that holds no tokens.
    """
    path = Path(folder) / f"{split}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_ours(path)
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    about = {
        "checksum": MARK,
        "format": FORMAT,
        "tokenizer": tokenizer.fingerprint,
        "tokenizer_name": tokenizer.name,
        "eos_id": tokenizer.eos_id,
        "dtype": dtype,
        "stamp": stamp,
    }
    groups = _encoded(documents, tokenizer, DTYPES[dtype], workers or os.cpu_count() or 1)
    write_sealed(path, lambda part: _write(part, groups, split, about, total))
    return TokenFile(folder, split, tokenizer)


def _write(part: Path, groups: Iterable["_Encoded"], split: str, about: dict[str, Any], total: int | None) -> None:
    """The tokens of all groups, behind a header that says what they are, and how many."""
    counts = dict.fromkeys(COUNTS, 0)
    bar = tqdm(desc=f"tokenizing {split}", total=total, unit="B", unit_scale=True, disable=None, leave=False)
    with bar, part.open("rb+") as file:
        file.write(b" " * HEADER_BYTES)
        for group in groups:
            file.write(group.tokens.tobytes())
            for name, count in zip(counts, (len(group.tokens), group.n_bytes, group.n_documents), strict=True):
                counts[name] += count
            bar.update(group.n_bytes)
        if not (counts["n_tokens"] and counts["n_bytes"]):
            raise UserError(f"{split}: there is no text to tokenize")
        header = json.dumps({**about, **counts}).encode()
        assert len(header) < HEADER_BYTES
        file.seek(0)
        file.write(header.ljust(HEADER_BYTES - 1) + b"\n")


def _check_ours(path: Path) -> None:
    """UserError: what lies there was not written by `write_tokens`, and may be somebody's text."""
    if path.exists():
        with path.open("rb") as file:
            if FORMAT.encode() not in file.read(HEADER_BYTES):
                raise UserError(f"{path} is in the way of tokens, and no file of theirs: give another folder for them")


class _Encoded(NamedTuple):
    tokens: Ids
    n_bytes: int
    n_documents: int


def _encoded(
    documents: Iterable[str | Piece], tokenizer: Tokenizer, dtype: "np.dtype[Any]", workers: int
) -> Iterator[_Encoded]:
    """Tokens of the documents in order; threads encode some groups ahead, so that memory is bounded."""
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
