"""What a run must know about the kind of its model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from torch import nn

from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from transformer_zoo.tokenizers import Tokenizer, TranslationTokenizer
from transformer_zoo.training.config import RunConfig

R = TypeVar("R", bound=RunConfig)
C = TypeVar("C", EncoderDecoderConfig, DecoderConfig, EncoderConfig)
T = TypeVar("T", TranslationTokenizer, Tokenizer)
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[R, C, T, M]):
    """A kind of model that recipes train.

    Args:
        name: Name of the kind, for people.
        recipes: Folder of its recipes.
        marks: Fields of `data` by which its recipes are recognised; empty: those that have no other kind's mark.
        use: What a run of it is used for, and the command; {} is its folder.
        recipe: The dataclass of its recipes.
        config: The class of the model's configuration.
        load_tokenizer: Reads its tokenizer from a folder.
        model: The class of the model, made from a configuration.
        model_config: Recipe, tokenizer and the configuration of the model that training starts from -> the
            configuration of the model that is trained. Without a tokenizer it gives what is known before there is one.
        adapt: Recipe, configuration and tokenizer of a model to start from -> both as this recipe uses them.
    """

    name: str
    recipes: str
    marks: frozenset[str] = frozenset()
    use: str
    recipe: type[R]
    config: type[C]
    load_tokenizer: Callable[[Path], T]
    model: Callable[[C], M]
    model_config: Callable[[R, T | None, C | None], C]
    adapt: Callable[[R, C, T], tuple[C, T]] = lambda _, config, tokenizer: (config, tokenizer)
