"""How any tokenizer is stored on the disk."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from xxhash import xxh3_64_hexdigest

from transformer_zoo.checksums import read_fields, write_fields
from transformer_zoo.errors import UserError, naming
from transformer_zoo.files import read_bytes, write_bytes
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.kinds import KINDS, kind_of

INDEX = "tokenizer_kind.json"
_AGAIN = "save the tokenizer again"


class Saved:
    """A thing that a folder keeps: `tokenizer_kind.json` names its class and has checksums; its files lie beside it."""

    classes: ClassVar[dict[str, "type[Saved]"]] = {}
    kind: ClassVar[str]
    made_of: ClassVar[Sequence[str]] = ()
    """Arguments of the class, kept under the same names; some may be such things themselves, files or bytes."""

    def __init_subclass__(cls) -> None:
        if "kind" in vars(cls):
            Saved.classes[cls.kind] = cls

    def content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Its content: fields that JSON can hold, and files by their names. By default these are its arguments."""
        fields: dict[str, Any] = {}
        files: dict[str, bytes] = {}
        for name in self.made_of:
            match getattr(self, name):
                case Saved() as part:
                    about, inside = part.content()
                    fields[name] = {"kind": part.kind, **about}
                    files |= {f"{name}.{file}": content for file, content in inside.items()}
                case TokenizerFiles() as kept:
                    fields[name] = {"model_type": kept.model.get("model_type")}
                    files |= kept.contents
                case bytes() as content:
                    files[f"{self.kind}.{name}"] = content
                case value:
                    fields[name] = value
        return fields, files

    @classmethod
    def from_content(cls, fields: dict[str, Any], files: dict[str, bytes]) -> Self:
        """Make it from its `content`."""
        made = dict(fields)
        for name in cls.made_of:
            if (file := f"{cls.kind}.{name}") in files:
                made[name] = files[file]
            elif isinstance(about := fields[name], dict) and "kind" not in about:
                made[name] = TokenizerFiles(Path("tokenizer"), files, about)
            elif isinstance(about, dict):
                inside = {file.removeprefix(f"{name}."): x for file, x in files.items() if file.startswith(f"{name}.")}
                made[name] = _made(about, inside)
        return cls(**made)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the vocabulary. It is equal for tokenizers that give the same ids."""
        fields, files = self.content()
        digest = hashlib.sha256(json.dumps({"kind": self.kind, **fields}, sort_keys=True).encode())
        for name in sorted(files):
            digest.update(f"\n{name} {len(files[name])}\n".encode() + files[name])
        return digest.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write it into the folder; it replaces any other tokenizer there."""
        fields, files = self.content()
        write_files(Path(folder), files)  # files are refused until the index has their sums
        sums = {name: xxh3_64_hexdigest(content) for name, content in files.items()}
        write_fields(Path(folder) / INDEX, {"kind": self.kind, "checksums": sums, **fields})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote. UserError: there is no tokenizer, or it is damaged or not of this class."""
        folder = Path(folder)
        try:
            fields = read_fields(folder / INDEX, remedy=_AGAIN)
            files = _read_files(folder, fields.pop("checksums"))
            with naming(str(folder)):
                found = _made(fields, files)
        except UserError:
            raise
        except FileNotFoundError as error:
            raise UserError(f"{folder}: no tokenizer here ({Path(error.filename).name})") from None
        except OSError as error:
            raise UserError(f"{folder}: cannot read the tokenizer ({error.strerror})") from None
        except (ValueError, LookupError, ArithmeticError, AttributeError, TypeError, RecursionError):
            raise UserError(f"{folder / INDEX} is damaged, or from a newer version: {_AGAIN}") from None
        if not isinstance(found, cls):
            raise UserError(f"{folder}: a tokenizer of kind {found.kind!r}, which does not fit this model")
        return found


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their names into a folder, which is created if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_bytes(folder / name, content)


def _made(fields: dict[str, Any], files: dict[str, bytes]) -> Saved:
    """The thing with this content; one of the fields is its kind."""
    kind, rest = fields["kind"], {name: value for name, value in fields.items() if name != "kind"}
    return (kind_of(kind) if kind in KINDS else Saved.classes[kind]).from_content(rest, files)


def _read_files(folder: Path, sums: Mapping[str, str]) -> dict[str, bytes]:
    if any(Path(name).name != name for name in sums):
        raise ValueError
    files = {name: read_bytes(folder / name) for name in sums}
    for name, content in files.items():
        if xxh3_64_hexdigest(content) != sums[name]:
            raise UserError(f"{folder / name} is damaged, or was changed after it was written: {_AGAIN}")
    return files
