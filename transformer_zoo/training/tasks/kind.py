"""What a run has to know about the kind of its model."""

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
        name: What such a model is, for people.
        recipes: Folder of its recipes.
        marks: Fields of `data` by which its recipes are known; none: what no other knows.
        use: What is done with a run of it, and how; {} is its folder.
        recipe: The dataclass of its recipes.
        config: That of the model.
        load_tokenizer: Reads its tokenizer from a folder.
        model: Its class, made from a configuration.
        model_config: Recipe, tokenizer and the configuration of the model that training starts from -> that of the
            model that is trained. Without a tokenizer, what can be known before there is one.
        adapt: Recipe, configuration and tokenizer of a model to start from -> both as this recipe takes them.
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
