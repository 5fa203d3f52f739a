"""Token shards: tokenized text on disk, memory-mapped, bigger than memory; `tokenizing` writes them.

A split is an index `<split>.json` and files `<split>-00000.bin`, ...: 512 bytes of header (a line of JSON and blanks),
then the tokens, little-endian uint16 or uint32. Each file carries its checksum; the index has
those of the others too. It is written last: a split is there whole or not at all.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_hexdigest

from transformer_zoo.checksums import read_fields, verify
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.tokenizer import Tokenizer

FORMAT, HEADER_BYTES = "transformer_zoo tokens 2", 512
_AGAIN = "tokenize the text again"


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

    def __init__(self, folder: str | Path, split: str, tokenizer: Tokenizer | None = None) -> None:
        self.folder, self.split = Path(folder), split
        path = self.folder / f"{split}.json"
        try:
            index = read_fields(path, remedy=_AGAIN)
        except FileNotFoundError:
            raise UserError(f"{self.folder}: no tokens of a split {split!r} here") from None
        if not _is_index(index, split):
            raise UserError(f"{path}: damaged; {_AGAIN}")
        self.fingerprint: str = index["tokenizer"]
        self.n_tokens: int = index["n_tokens"]
        self.n_bytes: int = index["n_bytes"]
        self.n_documents: int = index["n_documents"]
        self.eos_id: int | None = index["eos_id"]
        self.stamp: str = index["stamp"]
        self._shards: list[dict[str, Any]] = index["shards"]
        made_with = index["tokenizer_name"]
        if tokenizer is not None and tokenizer.fingerprint != self.fingerprint:
            raise UserError(
                f"{path}: tokenized with {made_with}, {self.fingerprint[:8]}, but the tokenizer is {tokenizer.name}, "
                f"{tokenizer.fingerprint[:8]}; tokenize the text again"
            )
        self._parts = [self._open(shard) for shard in self._shards]
        self._starts = np.cumsum([0] + [len(part) for part in self._parts])
        if self._starts[-1] != self.n_tokens:
            raise UserError(f"{path}: damaged; {_AGAIN}")

    def _open(self, shard: dict[str, Any]) -> NDArray[Any]:
        path = self.folder / shard["file"]
        try:
            with open(path, "rb") as file:
                header = json.loads(file.read(HEADER_BYTES))
            dtype = np.dtype({"uint16": "<u2", "uint32": "<u4"}[header["dtype"]])
            fits = (header["format"], header["tokenizer"]) == (FORMAT, self.fingerprint)
            fits &= (header["count"], header["checksum"]) == (shard["count"], shard["checksum"])
            fits &= path.stat().st_size == HEADER_BYTES + header["count"] * dtype.itemsize
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError):
            fits = False
        if not fits:
            raise UserError(f"{path}: damaged, or not of this split; tokenize the text again")
        return np.memmap(path, dtype, "r", HEADER_BYTES)

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

    @property
    def checksum(self) -> str:
        """Of all tokens, as it was when they were written."""
        return xxh3_64_hexdigest(json.dumps([shard["checksum"] for shard in self._shards]).encode())

    def verify(self) -> None:
        """Read everything and compare the checksums. UserError names the first file that was changed."""
        for shard in self._shards:
            verify(self.folder / shard["file"], remedy=_AGAIN)


def _is_index(index: dict[str, Any], split: str) -> bool:
    """Whether these are the fields of an index, and name files of its own folder."""
    counts = [index.get(name) for name in ("n_tokens", "n_bytes", "n_documents")]
    texts = [index.get(name) for name in ("tokenizer", "stamp", "tokenizer_name")]
    eos_id, shards = index.get("eos_id", ""), index.get("shards")
    return (
        all(type(count) is int and count >= 0 for count in counts)
        and all(isinstance(text, str) for text in texts)
        and (eos_id is None or type(eos_id) is int)
        and isinstance(shards, list)
        and bool(shards)
        and all(
            isinstance(shard, dict) and re.fullmatch(re.escape(split) + r"-\d{5,}\.bin", str(shard.get("file")))
            for shard in shards
        )
    )
