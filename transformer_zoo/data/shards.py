"""Token shards: tokenized text on disk, memory-mapped, bigger than memory; `tokenizing` writes them.

A split is an index `<split>.json` and files `<split>-00000.bin`, ...: 512 bytes of header (a line of JSON and blanks),
then the tokens, little-endian uint16 or uint32. The index is written last: a split is there whole or not at all.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from transformer_zoo.data.text_tokenizers import TextTokenizer
from transformer_zoo.errors import UserError

FORMAT, HEADER_BYTES = "transformer_zoo tokens 1", 512


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
                header = json.loads(file.read(HEADER_BYTES))
            dtype = np.dtype(header["dtype"]).newbyteorder("<")
            fits = (header["format"], header["tokenizer"]) == (FORMAT, self.fingerprint)
            fits &= (header["count"], header["crc32"]) == (shard["count"], shard["crc32"])
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
        return f"{zlib.crc32(json.dumps([shard['crc32'] for shard in self._shards]).encode()):08x}"

    def verify(self) -> None:
        """Read everything and compare the checksums. UserError names the first file that was changed."""
        size = sum(part.nbytes for part in self._parts)
        bar = tqdm(desc=f"verifying {self.split}", total=size, unit="B", unit_scale=True, disable=None, leave=False)
        with bar:
            for part, shard in zip(self._parts, self._shards, strict=True):
                checksum = 0
                for start in range(0, len(part), 1 << 20):
                    content = part[start : start + (1 << 20)].tobytes()
                    checksum = zlib.crc32(content, checksum)
                    bar.update(len(content))
                if checksum != shard["crc32"]:
                    raise UserError(f"{self.folder / shard['file']}: damaged (checksum); tokenize the text again")
