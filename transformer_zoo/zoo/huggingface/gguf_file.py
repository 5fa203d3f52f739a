"""The content of a GGUF file, by the package gguf: keys with values, and tensors in blocks of quantised numbers."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from transformer_zoo.errors import UserError
from transformer_zoo.files import check_readable, refuse_pointer

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFReader, ReaderTensor


class Place(NamedTuple):
    """A tensor in a file: its shape, outputs first, and its blocks."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    blocks: tuple[int, int]  # number of rows, and bytes of each
    kind: "GGMLQuantizationType"

    @property
    def dtype(self) -> str:
        """The type of the decoded numbers."""
        return {"F16": "float16", "BF16": "bfloat16"}.get(self.kind.name, "float32")

    def rows(self, which: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Some rows of the tensor, or elements of a vector, in float32; only these are in memory."""
        from gguf.quants import dequantize

        is_vector = len(self.shape) == 1  # one row
        held: NDArray[np.uint8] = np.memmap(self.path, np.uint8, "c", self.offset, self.blocks)
        with np.errstate(all="ignore"):  # damaged scales
            values = dequantize(held if is_vector else held[which], self.kind)
        return np.asarray(values[0][which] if is_vector else values, np.float32)


def is_gguf(path: Path) -> bool:
    """Whether it is a GGUF file, by its name or by its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix.lower() == ".gguf" or file.read(4) == b"GGUF"


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, Place]]:
    """Keys and values, and where each tensor is.

    Raises:
        UserError: it is a pointer of git-lfs, has another byte order, or has a type that cannot be decoded; or the
            package is missing.
        ValueError, LookupError, ArithmeticError, ...: it is damaged.
    """
    check_readable(path)
    refuse_pointer(path)
    reader = _reader(path)
    if reader.byte_order != "I":
        raise UserError(f"{path} was written for machines of the other byte order; convert it with gguf-convert-endian")
    places = {}
    for one in reader.tensors:
        shape = tuple(map(int, reversed(one.shape)))
        places[one.name] = Place(path, one.data_offset, shape, _blocks(path, one), one.tensor_type)
    return {name: _shortest(value.contents()) for name, value in reader.fields.items()}, places


def _shortest(value: Any) -> Any:
    """A number without the error of rounding to float32 when it was written: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _reader(path: Path) -> "GGUFReader":
    """The package's reader, which would never end in a file that is too short, and is slow with a vocabulary."""
    try:
        from gguf import GGUFReader
    except ImportError:
        raise UserError(f"{path}: GGUF files are read by a package: pip install gguf") from None

    class Reader(GGUFReader):
        def _get(
            self, offset: int, dtype: DTypeLike, count: int = 1, override_order: Literal["I", "S", "<"] | None = None
        ) -> NDArray[Any]:
            kind = np.dtype(dtype).newbyteorder(override_order or self.byte_order)
            return np.frombuffer(self.data, kind, int(count), offset)

    with np.errstate(all="raise"):
        return Reader(path)


def _blocks(path: Path, tensor: "ReaderTensor") -> tuple[int, int]:
    """Number of rows of a tensor, and bytes of each. UserError: numbers of its type cannot be decoded."""
    from gguf import GGML_QUANT_SIZES
    from gguf.quants import dequantize

    *rows, last = map(int, reversed(tensor.shape))
    size, n_bytes = GGML_QUANT_SIZES[tensor.tensor_type]
    try:
        with np.errstate(all="ignore"):
            dequantize(np.zeros((1, n_bytes), np.uint8), tensor.tensor_type)
    except NotImplementedError:
        kind = tensor.tensor_type.name
        raise UserError(f"{path}: {tensor.name} is of {kind}, which the package gguf cannot read") from None
    return math.prod(rows), last // size * n_bytes
