"""Families of models, one file each: constants, sizes, and tables that map our names to those in transformers' files.

A file's `FAMILIES` are found automatically. Encoder-decoders come first, then files by name, with sizes from small to
large. The sizes have the numbers of the weights that were published under their names. Their `bos_id` is the token that
a text of that model starts with; None if nothing is put before a text.
"""

from importlib import import_module
from pkgutil import iter_modules

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.zoo.huggingface.family import Family

_ALL: list[Family] = [
    family for file in iter_modules(__path__) for family in import_module(f"{__name__}.{file.name}").FAMILIES
]
_ALL.sort(key=lambda family: family.config is not EncoderDecoderConfig)

FAMILIES: dict[str, Family] = {family.model_type: family for family in _ALL if family.model_type}
"""The families whose weights can be read and written, by their `model_type`."""

SIZES: dict[str, Family] = {name: family for family in _ALL for name in family.sizes}
"""The family of each model that the zoo names."""
