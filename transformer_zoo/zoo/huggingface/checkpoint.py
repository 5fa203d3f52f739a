"""The weight files of a folder: the tensors in them, and their values, read one piece at a time.

A file is mapped into memory only while a piece of it is copied, because pages that were read count as used until then.
"""

import ctypes
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from transformer_zoo.checksums import UncheckedWarning, verify
from transformer_zoo.errors import UserError
from transformer_zoo.files import read_bytes
from transformer_zoo.zoo.huggingface.gguf import read_gguf

PIECE = 4 << 20
"""Number of bytes that are copied at a time, in addition to the model's memory."""

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Entry(NamedTuple):
    """A tensor of a file; its dtype is None if it is not a floating-point type."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None


class _File(Protocol):
    """A file of tensors."""

    path: Path
    entries: dict[str, Entry]

    def copy(self, name: str, start: int, into: Tensor) -> None:
        """Copy as many rows of a tensor as `into` has, from this row on; or the one number that it is."""

    def keep(self, names: Iterable[str]) -> None:
        """Forget all other tensors."""

    def take(self, name: str) -> Tensor | None:
        """The tensor itself, if it is in memory anyway; otherwise None."""


class _Safetensors:
    """A safetensors file, which can only hold tensors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            names = list(file.keys())
            views = [file.get_slice(name) for name in names]
            entries = [Entry(tuple(view.get_shape()), _DTYPES.get(view.get_dtype())) for view in views]
        self.entries = dict(zip(names, entries, strict=True))

    def _open(self) -> Any:
        try:
            return safe_open(self.path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise UserError(f"{self.path}: no weights can be read ({error})") from None

    def copy(self, name: str, start: int, into: Tensor) -> None:
        with self._open() as file:
            into.copy_(file.get_slice(name)[start : start + len(into)] if into.dim() else file.get_tensor(name))

    def keep(self, names: Iterable[str]) -> None:
        """Nothing of the file stays in memory."""

    def take(self, name: str) -> Tensor | None:
        return None


class _Pickled:
    """A file of `torch.save`, read as tensors only. A file that would execute code when it is read is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors: dict[str, Tensor] = {}
        self._copied = 0  # number of bytes read since it was mapped
        self._mapped = zipfile.is_zipfile(path)  # files from before torch 1.6 cannot be, and are read as a whole
        self._enough = max(PIECE, path.stat().st_size // 50)  # before mapping it again, which takes milliseconds
        self.entries = {
            name: Entry(tuple(t.shape), t.dtype if t.is_floating_point() else None)
            for name, t in self._load("meta").items()
        }

    def _load(self, device: str = "cpu") -> dict[str, Tensor]:
        """The tensors; on "meta" without their values."""
        try:
            with warnings.catch_warnings():  # of whether sparse tensors are checked, which are refused below
                warnings.filterwarnings("ignore", "Validating sparse tensor|Sparse invariant checks")
                held = torch.load(self.path, map_location=device, weights_only=True, mmap=self._mapped)
        except NotImplementedError:  # torch 2.14 checks them, and cannot on "meta"
            held = None
        except pickle.UnpicklingError:
            raise UserError(f"{self.path} holds more than tensors, which would run code when read") from None
        except Exception as error:  # what reading a stranger's file raises has no common base
            why = str(error).partition("\n")[0] or "it ends too soon"
            raise UserError(f"{self.path}: no weights can be read ({why})") from None
        if not isinstance(held, dict) or not all(
            isinstance(name, str) and isinstance(t, Tensor) and t.layout == torch.strided and t.device.type == device
            for name, t in held.items()
        ):
            raise UserError(f"{self.path} holds something else than plain tensors by name")
        return dict(held)

    def _held(self, name: str) -> Tensor:
        """A tensor. Its file is read or mapped if necessary, and mapped again after a while, so that pages read before
        no longer take memory.
        """
        if name not in self._tensors or (self._mapped and self._copied > self._enough):
            self._tensors, self._copied = {}, 0
            self._tensors = self._load()
        return self._tensors[name].detach()

    def copy(self, name: str, start: int, into: Tensor) -> None:
        rows = self._held(name)[start : start + len(into)] if into.dim() else self._held(name)
        into.copy_(rows)
        self._copied += rows.nbytes

    def keep(self, names: Iterable[str]) -> None:
        self._tensors = {name: self._tensors[name] for name in names if name in self._tensors}

    def take(self, name: str) -> Tensor | None:
        tensor = self._held(name)
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        return tensor if whole and not self._mapped else None


class _Gguf:
    """A GGUF file. Only the part that is being copied is in memory."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, read_gguf(path)
        self.entries = {name: Entry(*about) for name, about in self._file.tensors.items()}

    def copy(self, name: str, start: int, into: Tensor) -> None:
        into.copy_(torch.from_numpy(self._file.rows(name, start, start + len(into))))

    def keep(self, names: Iterable[str]) -> None:
        """Nothing of the file stays in memory."""

    def take(self, name: str) -> Tensor | None:
        return None


_KINDS: dict[str, Callable[[Path], _File]] = {".bin": _Pickled, ".safetensors": _Safetensors}


class Checkpoint:
    """All tensors of a folder with model.safetensors or pytorch_model.bin, in one file or in parts with an index, or of
    a GGUF file.

    `entries` describes each tensor. If several files have a tensor, the one in the index counts.

    Raises:
        UserError: there are no weights, or a file is missing, damaged, or would execute code.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._where: dict[str, _File] = {}
        files = dict(self._files())
        named = {name for names in files.values() for name in names}
        if not all([verify(path, warn=False) for path in files]):
            warnings.warn(f"{folder}: its weights carry no checksum; they are read as they are", UncheckedWarning, 3)
        for path, names in files.items():
            file: _File = _Gguf(path) if path == folder else _KINDS[path.suffix](path)
            if not file.entries:
                raise UserError(f"{path} has no tensors; fetch it again")
            for name in names or file.entries:
                if name not in file.entries:
                    raise UserError(f"{path} has no tensor {name}, which the index of {folder} says it has")
            if named and (extra := sorted(file.entries.keys() - named)):
                raise UserError(f"{path} has {extra[0]}, which the index of {folder} does not name")
            self._where |= dict.fromkeys(names or file.entries, file)
        self.entries = {name: file.entries[name] for name, file in self._where.items()}
        _return_freed()

    def _files(self) -> Iterator[tuple[Path, list[str]]]:
        """Each file, and the tensors to take from it; empty means all."""
        if self.folder.is_file():
            yield self.folder, []
            return
        for name in ("model.safetensors", "pytorch_model.bin"):
            if (path := self.folder / name).is_file():
                yield path, []
                return
            if (index := self.folder / f"{name}.index.json").is_file():
                yield from self._parts(index)
                return
        raise UserError(f"{self.folder} has neither model.safetensors nor pytorch_model.bin, whole or in parts")

    def _parts(self, index: Path) -> Iterator[tuple[Path, list[str]]]:
        places = read_json(index).get("weight_map")
        if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
            raise UserError(f"{index} has no weight_map, which says what is in which file")
        for file in dict.fromkeys(places.values()):
            path = self.folder / file
            if path.parent != self.folder or path.suffix not in _KINDS:
                raise UserError(f"{index} names {file!r}, which is not a weight file beside it")
            if not path.is_file():
                raise UserError(f"{index} names {file}, which is not there")
            yield path, [name for name, place in places.items() if place == file]

    def copy(self, name: str, into: Tensor) -> None:
        """Copy a whole tensor, one piece at a time, into one of the same shape."""
        if not into.dim():
            self._where[name].copy(name, 0, into)
            return
        rows = self._rows(name)
        for start in range(0, len(into), rows):
            self._where[name].copy(name, start, into[start : start + rows])

    def turn(self, name: str) -> tuple[int, str, int]:
        """A sort key that orders tensors file by file, the largest file and tensor first. Then little else is in memory
        when the model is almost complete.
        """
        path, shape = self._where[name].path, self.entries[name].shape
        return -path.stat().st_size, path.name, -torch.Size(shape).numel()

    def keep(self, names: Sequence[str]) -> None:
        """Forget all other tensors, and those of other files than the first one's until they are asked for. So of files
        that cannot be mapped only one is in memory at a time, and only the needed part.
        """
        for file in set(self._where.values()):
            file.keep(names if file is self._where[names[0]] else [])
        _return_freed()

    def take(self, name: str, like: Tensor) -> Tensor | None:
        """The tensor itself, if its whole file is in memory and it has the type and device of `like`."""
        tensor = self._where[name].take(name)
        return tensor if tensor is not None and (tensor.dtype, tensor.device) == (like.dtype, like.device) else None

    def read(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """A whole tensor. dtype: None for its own."""
        held = torch.empty(self.entries[name].shape, dtype=dtype or self.entries[name].dtype)
        self.copy(name, held)
        return held

    def equal(self, a: str, b: str) -> bool:
        """Whether two tensors have the same values."""
        shape, dtype = self.entries[a]
        if self.entries[a] != self.entries[b]:
            return False
        rows = self._rows(a)
        for start in range(0, shape[0], rows):
            pieces = [torch.empty(min(rows, shape[0] - start), *shape[1:], dtype=dtype) for _ in range(2)]
            for name, piece in zip((a, b), pieces, strict=True):
                self._where[name].copy(name, start, piece)
            if not torch.equal(*pieces):
                return False
        return True

    def _rows(self, name: str) -> int:
        """Number of rows in a piece."""
        shape, dtype = self.entries[name]
        return max(1, PIECE // max(1, torch.Size(shape[1:]).numel() * (dtype or torch.float32).itemsize))


def _return_freed() -> None:
    """Return free memory to the system; glibc would keep some that is never used again."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. UserError: there is no such file, or it is not JSON."""
    try:
        values = json.loads(read_bytes(path))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a JSON object")
    return values
