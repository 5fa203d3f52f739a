"""Tokenized text on disk, memory-mapped, bigger than memory; `tokenizing` writes it.

A split is one file, `<split>.bin`: 1024 bytes of header (a line of JSON, with a checksum of the whole file, and
blanks), then the tokens, little-endian uint16 or uint32.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transformer_zoo.checksums import verify
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.tokenizer import Tokenizer

FORMAT, HEADER_BYTES = "transformer_zoo tokens 3", 1024
DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
COUNTS = ("n_tokens", "n_bytes", "n_documents")
_AGAIN = "tokenize the text again"


class TokenFile:
    """A split that `write_tokens` wrote, as one long row of tokens on the disk.
    >>> TokenFile("tokens", "train").take(np.arange(2)).tolist()  # T, o
    [84, 111]

    Attributes:
        n_tokens: Tokens, those between documents included.
        n_bytes: Bytes of the text in UTF-8, for bits per byte.
        n_documents: Documents.
        eos_id: The id after each document, or None.
        stamp: What `write_tokens` was told.

    Raises:
        UserError: the split is not there or damaged, or was made with another tokenizer than `tokenizer`.
    """

    def __init__(self, folder: str | Path, split: str, tokenizer: Tokenizer | None = None) -> None:
        self.path, self.split = Path(folder) / f"{split}.bin", split
        header = _read_header(self.path, split)
        self.n_tokens, self.n_bytes, self.n_documents = (int(header[name]) for name in COUNTS)
        self.eos_id: int | None = header["eos_id"]
        self.fingerprint, self.stamp = str(header["tokenizer"]), str(header["stamp"])
        if tokenizer is not None and tokenizer.fingerprint != self.fingerprint:
            raise UserError(
                f"{self.path}: tokenized with {header['tokenizer_name']}, {self.fingerprint[:8]}, but the tokenizer is "
                f"{tokenizer.name}, {tokenizer.fingerprint[:8]}; {_AGAIN}"
            )
        self._tokens: NDArray[Any] = np.memmap(self.path, DTYPES[header["dtype"]], "r", HEADER_BYTES)

    def take(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """The tokens at these places, in the places' shape, uint16 or uint32."""
        return self._tokens[places]

    def verify(self) -> None:
        """Read everything and compare the checksum. UserError if it was changed."""
        verify(self.path, remedy=_AGAIN)


def _read_header(path: Path, split: str) -> dict[str, Any]:
    """The fields of a header that fits its file."""
    try:
        with open(path, "rb") as file:
            header = json.loads(file.read(HEADER_BYTES))
        counts = [header[name] for name in COUNTS]
        texts = [header[name] for name in ("tokenizer", "tokenizer_name", "stamp", "checksum")]
        eos_id, size = header["eos_id"], HEADER_BYTES + header["n_tokens"] * DTYPES[header["dtype"]].itemsize
        fits = (header["format"], path.stat().st_size) == (FORMAT, size)
        fits &= all(type(count) is int and count > 0 for count in counts) and (eos_id is None or type(eos_id) is int)
        fits &= all(isinstance(text, str) for text in texts)
    except FileNotFoundError:
        raise UserError(f"{path.parent}: no tokens of a split {split!r} here") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise UserError(f"{path}: damaged; {_AGAIN}")
    return header  # type: ignore[no-any-return]
