"""Text into token shards, by threads, and so that nothing unfinished looks finished."""

import json
import os
import re
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from transformer_zoo.checksums import MARK, seal_file, write_fields
from transformer_zoo.data.shards import FORMAT, HEADER_BYTES, TokenShards
from transformer_zoo.data.text import Piece, TextFiles
from transformer_zoo.errors import UserError
from transformer_zoo.files import lock, remove_leftovers, temporary_file, umask
from transformer_zoo.tokenizers.tokenizer import Ids, Tokenizer

_GROUP = 1 << 18  # characters that one thread encodes at a time, or one piece if that is longer


def prepare_shards(
    files: TextFiles, tokenizer: Tokenizer, folder: str | Path, split: str, *, workers: int = 0
) -> TokenShards:
    """The tokens of these files: as they lie in `folder` if they were made from the same and are whole, or made now.

    Another process that makes them meanwhile is waited for. Damaged ones are named in a warning.

    Raises:
        UserError: as `write_shards`, and for a file of the index's name that is no index.
    """
    folder, stamp = Path(folder), files.stamp()
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock"):
        remove_leftovers(folder)
        _check_ours(folder, split)
        try:
            there = TokenShards(folder, split)
            if (there.stamp, there.fingerprint) == (stamp, tokenizer.fingerprint):
                there.verify()
                return there
        except UserError as error:
            if (folder / f"{split}.json").exists():
                warnings.warn(f"{error}; that is done now", stacklevel=2)
        total = files.n_bytes()
        return write_shards(files.pieces(), tokenizer, folder, split, workers=workers, stamp=stamp, total=total)


def write_shards(
    documents: Iterable[str | Piece],
    tokenizer: Tokenizer,
    folder: str | Path,
    split: str,
    *,
    shard_tokens: int = 100_000_000,
    workers: int = 0,
    stamp: str = "",
    total: int | None = None,
) -> TokenShards:
    """Tokenize documents and write them as a split.

    Each begins with the tokenizer's `start_ids` and is followed by end-of-text where there is one.

    Documents are read as they are needed and encoded by threads, which the subword tokenizers let run side by side.
    An interrupted call leaves what was there before, or nothing that looks finished.

    Args:
        documents: Whole documents as strings, or `Piece`s.
        tokenizer: What encodes them; its fingerprint is kept.
        folder: Where the split goes.
        split: Its name, such as `train`.
        shard_tokens: Tokens in one file.
        workers: Threads; 0 for one a core.
        stamp: Says what the text was made from; kept for `TokenShards.stamp`.
        total: Bytes of text to come, if known, for the progress bar.

    Raises:
        UserError: the tokenizer cannot spell a document (file and line are named), or there is no text.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "format": FORMAT,
        "tokenizer": tokenizer.fingerprint,
        "dtype": "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32",
    }
    n_tokens = n_bytes = n_documents = 0
    writer = _Writer(folder, split, about, shard_tokens)
    try:
        with tqdm(desc=f"tokenizing {split}", total=total, unit="B", unit_scale=True, disable=None, leave=False) as bar:
            for group in _encoded(documents, tokenizer, np.dtype(about["dtype"]), workers or os.cpu_count() or 1):
                writer.add(group.tokens)
                n_tokens += len(group.tokens)
                n_bytes += group.n_bytes
                n_documents += group.n_documents
                bar.update(group.n_bytes)
        if not (n_tokens and n_bytes):
            raise UserError(f"{split}: there is no text to tokenize")
        writer.publish()
    finally:
        writer.discard()
    index = {
        **about,
        "tokenizer_name": tokenizer.name,
        "eos_id": tokenizer.eos_id,
        "n_tokens": n_tokens,
        "n_bytes": n_bytes,
        "n_documents": n_documents,
        "stamp": stamp,
        "shards": writer.shards,
    }
    write_fields(folder / f"{split}.json", index)
    return TokenShards(folder, split, tokenizer)


def _check_ours(folder: Path, split: str) -> None:
    """UserError: what lies there was not written by `write_shards`, and may be somebody's text."""
    for path in [folder / f"{split}.json", *_bins(folder, split)]:
        if path.exists():
            with path.open("rb") as file:
                if FORMAT.encode() not in file.read(HEADER_BYTES):
                    raise UserError(
                        f"{path} is in the way of tokens, and no file of theirs: give another folder for them"
                    )


def _bins(folder: Path, split: str) -> list[Path]:
    """Files with the names of a split's tokens."""
    name = re.compile(re.escape(split) + r"-\d{5,}\.bin")
    return [path for path in folder.iterdir() if name.fullmatch(path.name)]


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


class _Writer:
    """Cuts a stream of tokens into files, which get their names together; `shards` lists those that are complete."""

    def __init__(self, folder: Path, split: str, about: dict[str, Any], shard_tokens: int) -> None:
        self.folder, self.split, self.about, self.shard_tokens = folder, split, about, shard_tokens
        self.shards: list[dict[str, Any]] = []
        self._parts: list[Path] = []
        self._file: Any = None
        self._count = 0
        _check_ours(folder, split)

    def add(self, tokens: Ids) -> None:
        while len(tokens):
            if self._file is None:
                self._parts.append(temporary_file(self.folder))
                self._file = open(self._parts[-1], "wb")  # noqa: SIM115
                self._file.write(b" " * HEADER_BYTES)
            head, tokens = np.split(tokens, [self.shard_tokens - self._count])
            self._file.write(head.astype(head.dtype.newbyteorder("<"), copy=False).tobytes())
            self._count += len(head)
            if self._count == self.shard_tokens:
                self._complete()

    def publish(self) -> None:
        """Put the files in the place of an old split; its index must be written next."""
        if self._file is not None:
            self._complete()
        (self.folder / f"{self.split}.json").unlink(missing_ok=True)  # from here on the old split is gone
        for path in _bins(self.folder, self.split):
            path.unlink()
        for part, shard in zip(self._parts, self.shards, strict=True):
            part.replace(self.folder / shard["file"])

    def discard(self) -> None:
        """Remove what has not got its final name."""
        if self._file is not None:
            self._file.close()
        for path in self._parts:
            path.unlink(missing_ok=True)

    def _complete(self) -> None:
        """The header of the file that is open; then on the disk."""
        header = json.dumps({"checksum": MARK, **self.about, "count": self._count}).encode()
        self._file.seek(0)
        self._file.write(header.ljust(HEADER_BYTES - 1) + b"\n")
        self._file.flush()
        digits = seal_file(self._parts[-1])
        os.chmod(self._parts[-1], 0o666 & ~umask())
        os.fsync(self._file.fileno())
        self._file.close()
        name = f"{self.split}-{len(self.shards):05d}.bin"
        self.shards.append({"file": name, "count": self._count, "checksum": MARK[: -len(digits)] + digits})
        self._file, self._count = None, 0
