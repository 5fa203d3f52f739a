"""Token shards: tokenized text on disk, memory-mapped, bigger than memory.

A split is an index `<split>.json` and files `<split>-00000.bin`, ...: 512 bytes of header (a line of JSON and blanks),
then the tokens, little-endian uint16 or uint32. The index is written last: a split is there whole or not at all.
"""

import json
import os
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from transformer_zoo.data.text import Piece, TextFiles
from transformer_zoo.data.text_tokenizers import Ids, TextTokenizer
from transformer_zoo.errors import UserError
from transformer_zoo.files import write_bytes

_FORMAT, _HEADER = "transformer_zoo tokens 1", 512
_GROUP = 1 << 18  # characters that one thread encodes at a time, or one piece if that is longer


def prepare_shards(
    files: TextFiles, tokenizer: TextTokenizer, folder: str | Path, split: str, *, workers: int = 0
) -> "TokenShards":
    """The tokens of these files: as they lie in `folder` if they were made from the same, or else made now."""
    folder, stamp = Path(folder), files.stamp()
    try:
        there = TokenShards(folder, split, tokenizer)
    except UserError:
        there = None
    if there is not None and there.stamp == stamp:
        return there
    total = files.n_bytes()
    return write_shards(files.pieces(), tokenizer, folder, split, workers=workers, stamp=stamp, total=total)


def write_shards(
    documents: Iterable[str | Piece],
    tokenizer: TextTokenizer,
    folder: str | Path,
    split: str,
    *,
    shard_tokens: int = 100_000_000,
    workers: int = 0,
    stamp: str = "",
    total: int | None = None,
) -> "TokenShards":
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
        "format": _FORMAT,
        "tokenizer": tokenizer.fingerprint,
        "dtype": "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32",
    }
    for path in _bins(folder, split, ".part"):  # of a call that was killed
        path.unlink()
    n_bytes = n_documents = 0
    writer = _Writer(folder, split, about, shard_tokens)
    bar = tqdm(desc=f"tokenizing {split}", total=total, unit="B", unit_scale=True, disable=None, leave=False)
    try:
        for group in _encoded(documents, tokenizer, np.dtype(about["dtype"]), workers or os.cpu_count() or 1):
            writer.add(group.tokens)
            n_bytes += group.n_bytes
            n_documents += group.n_documents
            bar.update(group.n_bytes)
        writer.close()
        if not (n_bytes and writer.shards):
            raise UserError(f"{split}: there is no text to tokenize")
        (folder / f"{split}.json").unlink(missing_ok=True)  # from here on the old split is gone
        for path in _bins(folder, split, ""):
            path.unlink()
        for shard in writer.shards:
            (folder / f"{shard['file']}.part").replace(folder / shard["file"])
    finally:
        bar.close()
        writer.discard()
    index = {
        **about,
        "tokenizer_name": tokenizer.name,
        "eos_id": tokenizer.eos_id,
        "n_tokens": sum(shard["count"] for shard in writer.shards),
        "n_bytes": n_bytes,
        "n_documents": n_documents,
        "stamp": stamp,
        "shards": writer.shards,
    }
    write_bytes(folder / f"{split}.json", json.dumps(index, indent=1).encode() + b"\n")
    return TokenShards(folder, split, tokenizer)


def _bins(folder: Path, split: str, suffix: str) -> list[Path]:
    name = re.compile(re.escape(split) + r"-\d{5,}\.bin" + re.escape(suffix))
    return [path for path in folder.iterdir() if name.fullmatch(path.name)]


class _Encoded(NamedTuple):
    tokens: Ids
    n_bytes: int
    n_documents: int


def _encoded(
    documents: Iterable[str | Piece], tokenizer: TextTokenizer, dtype: "np.dtype[Any]", workers: int
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


def _located(piece: Piece, tokenizer: TextTokenizer, error: UserError) -> UserError:
    """The error with the line that it is about."""
    for number, line in enumerate(piece.text.split("\n"), start=piece.line):
        try:
            tokenizer.encode_array(line)
        except UserError as of_line:
            return UserError(f"{piece.path}:{number}: {of_line}")
    return UserError(f"{piece.path}:{piece.line}: {error}")


class _Writer:
    """Cuts a stream of tokens into files `<split>-<number>.bin.part`; `shards` lists those that are complete."""

    def __init__(self, folder: Path, split: str, about: dict[str, Any], shard_tokens: int) -> None:
        self.folder, self.split, self.about, self.shard_tokens = folder, split, about, shard_tokens
        self.shards: list[dict[str, Any]] = []
        self._file: Any = None
        self._count = self._sum = 0

    def add(self, tokens: Ids) -> None:
        while len(tokens):
            if self._file is None:
                self._file = open(self.folder / f"{self._name()}.part", "wb")  # noqa: SIM115
                self._file.write(b" " * _HEADER)
            head, tokens = np.split(tokens, [self.shard_tokens - self._count])
            content = head.astype(head.dtype.newbyteorder("<"), copy=False).tobytes()
            self._file.write(content)
            self._sum, self._count = zlib.crc32(content, self._sum), self._count + len(head)
            if self._count == self.shard_tokens:
                self.close()

    def close(self) -> None:
        """Complete the file that is open: its header, then on the disk."""
        if self._file is None:
            return
        shard = {"count": self._count, "crc32": self._sum}
        header = json.dumps(self.about | shard).encode()
        self._file.seek(0)
        self._file.write(header.ljust(_HEADER - 1) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.shards.append({"file": self._name(), **shard})
        self._file, self._count, self._sum = None, 0, 0

    def discard(self) -> None:
        """Remove what has not got its final name."""
        if self._file is not None:
            self._file.close()
        for path in _bins(self.folder, self.split, ".part"):
            path.unlink()

    def _name(self) -> str:
        return f"{self.split}-{len(self.shards):05d}.bin"


class TokenShards:
    """A split that `write_shards` wrote, as one long row of tokens on the disk.

    Attributes:
        n_tokens: Tokens, those between documents included.
        n_bytes: Bytes of the text in UTF-8, for bits per byte.
        n_documents: Documents.
        eos_id: The id after each document, or None.
        stamp: What `write_shards` was told.

    Raises:
        UserError: the split is not there or damaged, or was made with another tokenizer than `tokenizer`.
    """

    def __init__(self, folder: str | Path, split: str, tokenizer: TextTokenizer | None = None) -> None:
        self.folder, self.split = Path(folder), split
        path = self.folder / f"{split}.json"
        try:
            index = json.loads(path.read_bytes())
            self.fingerprint: str = index["tokenizer"]
            self.n_tokens: int = index["n_tokens"]
            self.n_bytes: int = index["n_bytes"]
            self.n_documents: int = index["n_documents"]
            self.eos_id: int | None = index["eos_id"]
            self.stamp: str = index["stamp"]
            self._shards: list[dict[str, Any]] = index["shards"]
            made_with = index["tokenizer_name"]
        except FileNotFoundError:
            raise UserError(f"{self.folder}: no tokens of a split {split!r} here") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: damaged; tokenize the text again") from None
        if tokenizer is not None and tokenizer.fingerprint != self.fingerprint:
            raise UserError(
                f"{path}: tokenized with {made_with}, {self.fingerprint[:8]}, but the tokenizer is {tokenizer.name}, "
                f"{tokenizer.fingerprint[:8]}; tokenize the text again"
            )
        self._parts = [self._open(shard) for shard in self._shards]
        self._starts = np.cumsum([0] + [len(part) for part in self._parts])

    def _open(self, shard: dict[str, Any]) -> NDArray[Any]:
        path = self.folder / shard["file"]
        try:
            with open(path, "rb") as file:
                header = json.loads(file.read(_HEADER))
            dtype = np.dtype(header["dtype"]).newbyteorder("<")
            fits = (header["format"], header["tokenizer"]) == (_FORMAT, self.fingerprint)
            fits &= (header["count"], header["crc32"]) == (shard["count"], shard["crc32"])
            fits &= path.stat().st_size == _HEADER + header["count"] * dtype.itemsize
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError):
            fits = False
        if not fits:
            raise UserError(f"{path}: damaged, or not of this split; tokenize the text again")
        return np.memmap(path, dtype, "r", _HEADER)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Tokens `start` up to `stop` (not included), (stop - start,), uint16 or uint32."""
        first, last = np.searchsorted(self._starts, [start, stop - 1], side="right") - 1
        return np.concatenate(
            [self._parts[i][max(start - self._starts[i], 0) : stop - self._starts[i]] for i in range(first, last + 1)]
        )

    def take(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """The tokens at these places, in the places' shape, uint16 or uint32."""
        if len(self._parts) == 1:
            one: NDArray[Any] = self._parts[0][places]
            return one
        which = np.searchsorted(self._starts, places, side="right") - 1
        tokens = np.empty(places.shape, self._parts[0].dtype)
        for i in np.unique(which):
            here = which == i
            tokens[here] = self._parts[i][places[here] - self._starts[i]]
        return tokens

    def verify(self) -> None:
        """Read everything and compare the checksums. UserError names the first file that was changed."""
        for part, shard in zip(self._parts, self._shards, strict=True):
            checksum = 0
            for start in range(0, len(part), 1 << 20):
                checksum = zlib.crc32(part[start : start + (1 << 20)].tobytes(), checksum)
            if checksum != shard["crc32"]:
                raise UserError(f"{self.folder / shard['file']}: damaged (checksum); tokenize the text again")
