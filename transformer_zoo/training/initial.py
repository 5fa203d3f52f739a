"""What training starts from where it does not start from scratch: `model.init_from`."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn

from transformer_zoo.config import PROBABILITIES, DecoderConfig, EncoderDecoderConfig
from transformer_zoo.errors import UserError, naming
from transformer_zoo.tokenizers import Tokenizer, TranslationTokenizer
from transformer_zoo.training.checkpoint import Checkpoints, Run, TextRun, Weights, load_run
from transformer_zoo.training.model_json import (
    read_model_json,
    with_special_ids,
)
from transformer_zoo.training.options import overridden

Config = TypeVar("Config", EncoderDecoderConfig, DecoderConfig)
AnyTokenizer = TypeVar("AnyTokenizer", TranslationTokenizer, Tokenizer)
Read = Callable[[str], Run | TextRun]
"""Reads a model that is no run: a folder of Hugging Face's, or a name on its hub."""


@dataclass
class Start(Generic[Config, AnyTokenizer]):
    """A model to go on from: its configuration, its tokenizer, and its weights where no checkpoint has others.

    `max_source_tokens` is the longest source that it was trained on, of an encoder-decoder.
    """

    config: Config
    tokenizer: AnyTokenizer
    weights: Weights | None
    max_source_tokens: int = 0

    def load_into(self, model: nn.Module) -> None:
        """Give the weights to a model of this configuration; here they are forgotten."""
        if self.weights is not None:
            model.load_state_dict(self.weights)
            self.weights = None


def translation_start(
    init_from: str, run_dir: Path, read: Read, *, source_lang: str, target_lang: str
) -> Start[EncoderDecoderConfig, TranslationTokenizer]:
    """The encoder-decoder that `init_from` names. A run that goes on has all of it in its own folder.

    A multilingual model's tokenizer is that for these languages; for others they are words for people.

    Raises:
        UserError: it cannot be read, is decoder-only, or does not know the languages.
    """
    if is_going_on(run_dir):
        about = read_model_json(run_dir)
        assert isinstance(about.config, EncoderDecoderConfig)  # the folder is this recipe's
        tokenizer = TranslationTokenizer.load(run_dir / "tokenizer")
        return Start(about.config, tokenizer, None, about.max_source_tokens or 0)
    run = _load(init_from, read)
    if isinstance(run, TextRun):
        raise UserError(f"model.init_from: {init_from} is decoder-only; train it with recipes/gpt/train.py")
    config, tokenizer = run.model.config, run.tokenizer
    if tokenizer.languages:
        with naming("data.source_lang and data.target_lang"), naming(init_from):
            tokenizer = tokenizer.with_languages(source_lang if tokenizer.takes_source else None, target_lang)
        config = with_special_ids(config, tokenizer)
    return Start(config, tokenizer, run.model.state_dict(), run.max_source_tokens)


def text_start(init_from: str, run_dir: Path, read: Read) -> Start[DecoderConfig, Tokenizer]:
    """The decoder-only model that `init_from` names; errors and a run that goes on as in `translation_start`."""
    if is_going_on(run_dir):
        config = read_model_json(run_dir).config
        assert isinstance(config, DecoderConfig)
        return Start(config, Tokenizer.load(run_dir / "tokenizer"), None)
    run = _load(init_from, read)
    if isinstance(run, Run):
        raise UserError(
            f"model.init_from: {init_from} is an encoder-decoder; train it with recipes/translation/train.py"
        )
    return Start(run.model.config, run.tokenizer, run.model.state_dict())


def is_going_on(run_dir: Path) -> bool:
    """Whether the folder holds a run that something was trained of."""
    return Checkpoints(run_dir).exist


def _load(init_from: str, read: Read) -> Run | TextRun:
    try:
        return load_run(init_from) if (Path(init_from) / "model.json").is_file() else read(init_from)
    except UserError as error:
        raise UserError(f"model.init_from: {error}") from None


def check_init_from(model: Any, tokenizer: Any, *, of_model: Sequence[str], of_tokenizer: Sequence[str] = ()) -> None:
    """With `model.init_from` a recipe's sections `model` and `tokenizer` may give only the fields named here.

    Raises:
        UserError: they give another one, which would have no effect.
    """
    if model.init_from is None:
        return
    for section, fields, free in (("model", model, of_model), ("tokenizer", tokenizer, of_tokenizer)):
        usual, but = type(fields)(), f" but for {', '.join(free)}" if free else ""
        for name in (field.name for field in dataclasses.fields(fields)):
            if name not in ("init_from", *free) and getattr(fields, name) != getattr(usual, name):
                raise UserError(f"{section}.{name}: model.init_from keeps the {section} as it is{but}; leave it out")


def keep_config(config: Config, model: Any, names: Sequence[str] = PROBABILITIES) -> Config:
    """The configuration with the fields `names` of a recipe's section `model`, where they are given."""
    return replace(config, **{name: value for name, value in overridden(model).items() if name in names})
