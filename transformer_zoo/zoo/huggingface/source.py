"""A folder of transformers' files, interpreted: its family, our configuration, and where each of our tensors is."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from transformer_zoo.blocks import sinusoids
from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig, SinusoidalSpec, WordsSpec
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families import FAMILIES
from transformer_zoo.zoo.huggingface.checkpoint import Checkpoint, read_json
from transformer_zoo.zoo.huggingface.common import other_kind
from transformer_zoo.zoo.huggingface.family import Config, Family, Fields, Weight, check_types
from transformer_zoo.zoo.huggingface.gguf import read_gguf
from transformer_zoo.zoo.huggingface.gguf_file import is_gguf
from transformer_zoo.zoo.huggingface.heads import NO_HEAD
from transformer_zoo.zoo.huggingface.parts import RULES, listed
from transformer_zoo.zoo.huggingface.sentences import read_sentences

_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_OF_A_TARGET = ("decoder_start_token_id", "eos_token_id")
_RULES = (*RULES, "bad_words_ids", "suppress_tokens")
C = TypeVar("C", DecoderConfig, EncoderConfig)
_NEW = {".gamma": ".weight", ".beta": ".bias"}
_OF_BEFORE = re.compile(r"(?<=LayerNorm)\.(gamma|beta)$")  # as the first BERT was written
_EMBEDDINGS = ("embedding", "source_embedding", "target_embedding", "head")


def read_fields(folder: Path) -> tuple[Family, dict[str, Any]]:
    """The family of a folder, and config.json's fields; special tokens that it lacks come from generation_config.json.

    As in `generate`, generation_config.json takes precedence about the tokens that a target starts and ends with, and
    it alone gives the rules for writing. A decoder-only model ends a text with the tokens of both files. A GGUF file is
    treated like a folder.

    Raises:
        UserError: there is no config.json, or its model_type is not known.
    """
    if is_gguf(folder):
        file = read_gguf(folder)
        return file.family, dict(file.fields)
    theirs = read_json(folder / "config.json")
    family = family_of(theirs, folder / "config.json")
    check_types(theirs, dict.fromkeys(_IDS, int | list))  # before another file takes precedence
    if (path := folder / "generation_config.json").is_file():
        generation = read_json(path)
        theirs |= {name: generation[name] for name in _IDS if theirs.get(name) is None and name in generation}
        theirs |= {name: generation.get(name) for name in _RULES}
        if family.config is EncoderDecoderConfig:
            theirs |= {name: generation[name] for name in _OF_A_TARGET if generation.get(name) is not None}
            theirs["forced_eos_token_id"] = generation.get("forced_eos_token_id")
            return family, theirs
        ends = [*listed(theirs.get("eos_token_id")), *listed(generation.get("eos_token_id"))]
        several = [token for i, token in enumerate(ends) if token is not None and token not in ends[:i]]
        if len(several) > 1:  # `generate` ends at each
            theirs["eos_token_id"] = several
    return family, theirs


def family_of(theirs: Fields, path: Path) -> Family:
    """The family that the fields of this config.json name. The first files have no model_type, only an architecture.

    Raises:
        UserError: there is no such family; the message says why, if the model has a feature that no family here can
            have.
    """
    named = [family for family in FAMILIES.values() if [family.architecture] == theirs.get("architectures")]
    kind = theirs.get("model_type", named[0].model_type if named else None)
    if isinstance(kind, str) and kind in FAMILIES:
        return FAMILIES[kind]
    why = other_kind(theirs)
    raise UserError(f"{path}: model_type is {kind!r}: " + (why or f"not one of {', '.join(FAMILIES)}"))


def read_config(folder: Path) -> Config:
    """Our configuration for a folder of transformers' files.

    Raises:
        UserError: something is missing, damaged or not supported; the message names it.
    """
    return Source(folder).config


class Source:
    """The weights of a folder under the names of the family's table.

    config: ours, in which the matrices that are one in the files are shared.
    """

    def __init__(self, folder: Path) -> None:
        self.family, theirs = read_fields(folder)
        declared = self.family.read(theirs)
        self.checkpoint = Checkpoint(folder)
        self._files = self._full_names()
        self._embeddings: dict[str, str] = {}
        self._copies: set[str] = set()  # embeddings that need not be used, because others are
        if isinstance(declared, EncoderConfig):
            lacks = isinstance(declared.head, WordsSpec) and self.family.weights["logit_bias"] not in self._files
            declared = declared.changed(**read_sentences(folder), **(NO_HEAD if lacks else {}))
            self.config: Config = self._share_head(declared)
        elif isinstance(declared, DecoderConfig):
            self.config = self._share_head(declared)
        else:
            self.config = self._share(declared)
            if declared.share_embeddings == "none" and theirs.get("share_encoder_decoder_embeddings", True):
                self._copies.add(self._their("embedding"))  # transformers then has it, and does not use it

    def _full_names(self) -> dict[str, str]:
        """Name in the table -> name in the file. In a model without its head no name has the prefix."""
        family, entries = self.family, self.checkpoint.entries
        modules = {entry.module if isinstance(entry, Weight) else entry for entry in family.weights.values()}
        outside = {module for module in modules if not module.startswith(family.prefix)}
        is_base = not any(name.startswith(family.prefix) for name in entries)
        names: dict[str, str] = {}
        for name in entries:
            full = family.renamed.get(name, name)
            if full in entries and name in family.unused:
                full = name
            full = _OF_BEFORE.sub(lambda found: _NEW[found[0]], full)
            if is_base and full not in outside and full.rpartition(".")[0] not in outside:
                full = family.prefix + full
            if full in names:
                raise UserError(f"{self.checkpoint.folder} has {names[full]} and {name}, which are the same weight")
            names[full] = name
        return names

    def _their(self, module: str) -> str:
        """The table's name of the weight of one of our embeddings, or of the head."""
        return f"{self.family.weights[module]}.weight"

    def _own(self, module: str, shared: str) -> str:
        """The name of the matrix that a module uses: its own, unless that is missing or a copy of the shared one."""
        own = self._their(module)
        if own == shared or own not in self._files or shared not in self._files:
            return shared if own not in self._files else own
        if not self.checkpoint.equal(self._files[own], self._files[shared]):
            return own
        self._copies.add(own)
        return shared

    def _share_head(self, config: C) -> C:
        """With a separate head if the files have one; if they call it tied, only if it differs."""
        embedding, head = self._their("embedding"), self._their("head")
        if not config.tie_embeddings:
            return config
        if embedding not in self._files and head in self._files:
            self._embeddings = {"embedding": head}
            return config
        return replace(config, tie_embeddings=self._own("head", embedding) != head)

    def _share(self, config: EncoderDecoderConfig) -> EncoderDecoderConfig:
        """Shared as in transformers: matrices that are called tied are one, unless the files have several that
        differ."""
        names = [self._their(module) for module in _EMBEDDINGS]
        present = [name for name in names if name in self._files]
        if config.share_embeddings == "none":
            source, target, head = names[1:]
            if source not in self._files and target not in self._files:  # until transformers 5 they were one even then
                source = target = names[0]
        elif config.share_embeddings == "decoder":
            source, target = names[1:3]
            head = self._own("head", target)
        else:
            shared = present[0] if present else names[0]
            source, target, head = (self._own(module, shared) for module in _EMBEDDINGS[1:])
        return self._place(config, source, target, head)

    def _place(self, config: EncoderDecoderConfig, source: str, target: str, head: str) -> EncoderDecoderConfig:
        """Our modules for these three, by which of them are one matrix."""
        if source == head != target:
            raise UserError(
                f"{self.checkpoint.folder}: the head is {source}, the source's embedding, not {target}, the target's"
            )
        if source == target:
            share = "all" if head == target else "inputs"
            self._embeddings = {"embedding": source, "head": head}
        else:
            share = "decoder" if head == target else "none"
            self._embeddings = {"source_embedding": source, "target_embedding": target, "head": head}
        return config.changed(share_embeddings=share)

    def weight(self, name: str) -> tuple[str, Weight]:
        """The full name of theirs for one of our tensors, and its form."""
        theirs, entry = self.family.weight(name, self.config)
        return self._embeddings.get(name.rpartition(".")[0], theirs), entry

    def file_name(self, theirs: str) -> str | None:
        """The name in the files; None: there is no such tensor."""
        return self._files.get(theirs)

    def in_turn(self, theirs: Iterable[str]) -> list[str]:
        """Sort tensors in the order in which reading takes the least memory."""
        return sorted(theirs, key=lambda name: self.checkpoint.turn(self._files[name]))

    def keep(self, theirs: Iterable[str]) -> None:
        """Declare that only these will be read from now on, in this order."""
        self.checkpoint.keep([self._files[name] for name in theirs])

    def check_unused(self, used: Iterable[str]) -> None:
        """Refuse tensors that nothing uses, except for copies and buffers that the family is known to have."""
        used = set(used)
        patterns = [re.compile(re.escape(name).replace(r"\{i\}", r"\d+")) for name in self.family.unused]
        extra = set(self._files) - used - self._copies - self._more_copies(used) - self._check_sinusoids()
        if extra := {name for name in extra if not any(pattern.fullmatch(name) for pattern in patterns)}:
            kind = self.family.model_type
            raise UserError(f"{self.checkpoint.folder}: {_some(extra)} not expected in a {kind} model")

    def _more_copies(self, used: set[str]) -> set[str]:
        """Embeddings that are not used, and one that is."""
        modules = {self._their(module) for module in _EMBEDDINGS if module in self.family.weights}
        return {
            name
            for name in modules & self._files.keys() - used - self._copies
            if any(self.checkpoint.equal(self._files[name], self._files[other]) for other in modules & used)
        }

    def _check_sinusoids(self) -> set[str]:
        """Check the sinusoids in files of some families: they must be those that are computed here."""
        fixed = waves_of(self.family, self.config)
        for name in fixed.keys() & self._files.keys():
            held = self.checkpoint.read(self._files[name])
            waves = waves_of(self.family, self.config, len(held))[name]
            if held.shape != waves.shape or not torch.allclose(held.float(), waves, atol=1e-3, rtol=0):
                raise UserError(f"{self.checkpoint.folder}: {name} holds other sinusoids than its family has")
        return set(fixed)

    def missing(self, names: Iterable[str]) -> UserError:
        """The error for missing tensors."""
        lack = f"{_some(set(names))} missing"
        return UserError(f"{self.checkpoint.folder}: {lack}; put the weights of this model there")


def waves_of(family: Family, config: Config, n: int | None = None) -> dict[str, Tensor]:
    """The sinusoids of a family's models by name, for the first n positions, or for as many as there are."""
    found = {}
    for name, stack in config.stacks():
        spec = stack.positions
        if isinstance(spec, SinusoidalSpec) and (module := family.weights.get(f"{name}.positions")):
            places = torch.arange(config.max_seq_len + spec.offset if n is None else n)
            found[f"{module}.weight"] = sinusoids(places, config.d_model, layout=spec.layout)
            found[f"{module}.weight"][: spec.offset][-1:] = 0  # of padding
    return found


def _some(names: set[str]) -> str:
    """The first few names, for a message."""
    first = sorted(names)[:3]
    rest = f" and {len(names) - len(first)} more" if len(names) > len(first) else ""
    return f"{', '.join(first)}{rest} {'are' if len(names) > 1 else 'is'}"
