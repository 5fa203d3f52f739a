"""The tokenizer files of a downloaded model, and their content. They are read as data and never executed."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import sentencepiece as spm

from transformer_zoo.errors import UserError
from transformer_zoo.files import json_object, read_bytes

# All files that a tokenizer may be made from. A run keeps them byte for byte.
_NAMES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "target_vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja"),
    *("vocab-src.json", "vocab-tgt.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "source.spm", "target.spm"),
)

_AGAIN = "fetch it again"

# generation_config.json says what a target starts with, as `generate` reads it; config.json says the rest.
_STARTS = ("forced_bos_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class TokenizerFiles:
    """Contents of the tokenizer files of `folder`, by name, and the fields of the model's own configuration.

    A run keeps the files unchanged, and the model's type from the configuration.
    """

    folder: Path
    contents: dict[str, bytes]
    model: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The files that exist in the folder of a model.

        Raises:
            UserError: there is no such folder, it has none of the files, or one cannot be read.
        """
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        names = (*_NAMES, "config.json", "generation_config.json")
        try:
            contents = {name: read_bytes(folder / name) for name in names if (folder / name).is_file()}
        except OSError as error:
            raise UserError(f"{error.filename}: cannot read the tokenizer ({error.strerror})") from None
        about = (json_object(contents.pop(name, b"{}"), folder / name, _AGAIN) for name in names[-2:])
        model, generation = about
        if not contents:
            raise UserError(
                f"{folder}: no tokenizer here (tokenizer.json, vocab.json with merges.txt, or a SentencePiece model)"
            )
        starts = {name: generation[name] for name in _STARTS if generation.get(name) is not None}
        return cls(folder, contents, generation | model | starts)

    def __contains__(self, name: str) -> bool:
        return name in self.contents

    def bytes_of(self, name: str) -> bytes:
        """Content of a file that must be there."""
        if name not in self.contents:
            raise UserError(f"{self.folder}: the tokenizer needs {name}, which is not there")
        return self.contents[name]

    def json(self, name: str) -> dict[str, Any]:
        """Fields of a JSON file; empty if there is no such file."""
        return json_object(self.contents[name], self.folder / name, _AGAIN) if name in self.contents else {}

    def sentencepiece(self, name: str) -> spm.SentencePieceProcessor:
        """A SentencePiece model that must be there."""
        return read_sentencepiece(self.bytes_of(name), self.folder / name)

    def vocabulary(self, name: str, unk: str | None = None) -> dict[str, int]:
        """Token to id, from a file that must exist; it must have the token for unknown text if that is given."""
        vocabulary = json_object(self.bytes_of(name), self.folder / name, _AGAIN)
        if not vocabulary or not all(type(i) is int and i >= 0 for i in vocabulary.values()):
            raise UserError(f"{self.folder / name}: damaged, ids are not whole numbers; {_AGAIN}")
        if unk is not None and unk not in vocabulary:
            raise UserError(f"{self.folder / name}: the vocabulary has no {unk}; {_AGAIN}")
        return vocabulary

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Fields of tokenizer_config.json, and those that only special_tokens_map.json has."""
        said = {name: value for name, value in self.json("tokenizer_config.json").items() if value is not None}
        return self.json("special_tokens_map.json") | said

    @property
    def tokenizer_class(self) -> str:
        """Name of the tokenizer's class, without "Fast"; "" if no file has it."""
        name = self.settings.get("tokenizer_class") or self.model.get("tokenizer_class") or ""
        return str(name).removesuffix("Fast")

    def token(self, name: str) -> str | None:
        """A special token by the name of its role, such as `eos_token`; None if no file names it."""
        token = self.settings.get(name)
        if isinstance(token, dict):
            token = token.get("content")
        return token if isinstance(token, str) else None

    @property
    def named_tokens(self) -> dict[str, str]:
        """The special tokens that the files name, by their roles."""
        roles = (f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
        return {role: token for role in roles if (token := self.token(role))}

    @property
    def chat_template(self) -> str | None:
        """The chat template, in Jinja: from a file of its own, or from the settings, by name or the only one."""
        said = self.settings.get("chat_template")
        if "chat_template.jinja" in self:
            said = self.contents["chat_template.jinja"].decode("utf-8", "replace")
        if isinstance(said, list):  # if there are several, the one for everything
            said = next(
                (one.get("template") for one in said if isinstance(one, dict) and one.get("name") == "default"), None
            )
        return said if isinstance(said, str) else None

    @cached_property
    def added(self) -> dict[str, int]:
        """Tokens in addition to the vocabulary, with their ids, from any file that has them."""
        found: dict[str, int] = {}
        try:
            for i, token in self.settings.get("added_tokens_decoder", {}).items():
                found[token["content"] if isinstance(token, dict) else str(token)] = int(i)
            found |= {str(token): int(i) for token, i in self.json("added_tokens.json").items()}
        except (TypeError, ValueError, KeyError, AttributeError):
            raise UserError(f"{self.folder}: the added tokens are damaged; {_AGAIN}") from None
        return found

    def model_id(self, name: str) -> int | None:
        """An id that the model's configuration names; the first one if it names several."""
        value = self.model.get(name)
        if isinstance(value, list):
            value = value[0] if value else None
        return value if type(value) is int and value >= 0 else None


def read_sentencepiece(model: bytes, path: Path) -> spm.SentencePieceProcessor:
    """A serialized SentencePiece model, with any special ids. UserError: it is not one."""
    try:
        if model:  # for an empty model it prints a message on standard error, and accepts it
            return spm.SentencePieceProcessor(model_proto=model)
    except RuntimeError:
        pass
    raise UserError(f"{path}: not a SentencePiece model; {_AGAIN}")
