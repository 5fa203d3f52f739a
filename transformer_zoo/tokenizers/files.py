"""The tokenizer files of a downloaded model: which there are, and what they say. They are read as data, never run."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import sentencepiece as spm

from transformer_zoo.errors import UserError
from transformer_zoo.files import json_object, read_bytes

# All that a tokenizer may be made of. They are kept with a run, byte for byte.
_NAMES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "target_vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja"),
    *("vocab-src.json", "vocab-tgt.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "source.spm", "target.spm"),
)

_AGAIN = "fetch it again"

# What a target starts with is generation_config.json's to say, as `generate` has it; the rest is config.json's.
_STARTS = ("forced_bos_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class TokenizerFiles:
    """Contents of the tokenizer files of `folder`, by name, and the fields of the model's own configuration.

    A run keeps the files as they are, and of the configuration the model's type.
    """

    folder: Path
    contents: dict[str, bytes]
    model: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Those that are in the folder of a model.

        Raises:
            UserError: no such folder, none of the files, or one that cannot be read.
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
        """Fields of a JSON file; none where there is no such file."""
        return json_object(self.contents[name], self.folder / name, _AGAIN) if name in self.contents else {}

    def sentencepiece(self, name: str) -> spm.SentencePieceProcessor:
        """A SentencePiece model that must be there."""
        return read_sentencepiece(self.bytes_of(name), self.folder / name)

    def vocabulary(self, name: str, unk: str | None = None) -> dict[str, int]:
        """Token to id, of a file that must be there, and must have a token for what is unknown if it is given."""
        vocabulary = json_object(self.bytes_of(name), self.folder / name, _AGAIN)
        if not vocabulary or not all(type(i) is int and i >= 0 for i in vocabulary.values()):
            raise UserError(f"{self.folder / name}: damaged, ids are no whole numbers; {_AGAIN}")
        if unk is not None and unk not in vocabulary:
            raise UserError(f"{self.folder / name}: the vocabulary has no {unk}; {_AGAIN}")
        return vocabulary

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Fields of tokenizer_config.json, and of special_tokens_map.json where it has others or says nothing."""
        said = {name: value for name, value in self.json("tokenizer_config.json").items() if value is not None}
        return self.json("special_tokens_map.json") | said

    @property
    def tokenizer_class(self) -> str:
        """Name of the tokenizer's class, without "Fast"; "" where no file has it."""
        name = self.settings.get("tokenizer_class") or self.model.get("tokenizer_class") or ""
        return str(name).removesuffix("Fast")

    def token(self, name: str) -> str | None:
        """A special token by the name of its role, such as `eos_token`; None where no file names it."""
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
        """How a conversation is written, in Jinja: in a file of its own, or among the settings, by name or the only."""
        said = self.settings.get("chat_template")
        if "chat_template.jinja" in self:
            said = self.contents["chat_template.jinja"].decode("utf-8", "replace")
        if isinstance(said, list):  # of several the one for everything
            said = next(
                (one.get("template") for one in said if isinstance(one, dict) and one.get("name") == "default"), None
            )
        return said if isinstance(said, str) else None

    @cached_property
    def added(self) -> dict[str, int]:
        """Tokens beside the vocabulary, with their ids, from whichever file has them."""
        found: dict[str, int] = {}
        try:
            for i, token in self.settings.get("added_tokens_decoder", {}).items():
                found[token["content"] if isinstance(token, dict) else str(token)] = int(i)
            found |= {str(token): int(i) for token, i in self.json("added_tokens.json").items()}
        except (TypeError, ValueError, KeyError, AttributeError):
            raise UserError(f"{self.folder}: the added tokens are damaged; {_AGAIN}") from None
        return found

    def model_id(self, name: str) -> int | None:
        """An id that the model's configuration names; the first where it names several."""
        value = self.model.get(name)
        if isinstance(value, list):
            value = value[0] if value else None
        return value if type(value) is int and value >= 0 else None


def read_sentencepiece(model: bytes, path: Path) -> spm.SentencePieceProcessor:
    """A serialized SentencePiece model, with whatever special ids. UserError if it is none."""
    try:
        if model:  # of an empty one it says something on standard error, and takes it
            return spm.SentencePieceProcessor(model_proto=model)
    except RuntimeError:
        pass
    raise UserError(f"{path}: not a SentencePiece model; {_AGAIN}")
