"""Weights of the models people download, in and out: the format of `transformers`."""

from transformer_zoo.zoo.huggingface.families import FAMILIES
from transformer_zoo.zoo.huggingface.hub import resolve
from transformer_zoo.zoo.huggingface.load import from_huggingface
from transformer_zoo.zoo.huggingface.save import to_huggingface
from transformer_zoo.zoo.huggingface.source import read_config

__all__ = ["FAMILIES", "from_huggingface", "read_config", "resolve", "to_huggingface"]
