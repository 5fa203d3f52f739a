"""A trained or imported run: reads and writes its model, its tokenizer and its recipe."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import nn

from transformer_zoo.config import EncoderConfig, EncoderDecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.models import DecoderOnly, EncoderDecoder, EncoderOnly
from transformer_zoo.models.memory import check_weights
from transformer_zoo.runs.hub import fetched_run, is_name
from transformer_zoo.runs.model_json import (
    ModelJson,
    check_text_tokenizer,
    check_translation_tokenizer,
    read_model_json,
    write_model_json,
)
from transformer_zoo.runs.recipe import load_recipe, save_recipe
from transformer_zoo.tokenizers import Tokenizer, TranslationTokenizer
from transformer_zoo.training.tasks.translation_recipe import check_recipe
from transformer_zoo.training.weights import load_weights, save_weights


@dataclass(frozen=True)
class Run:
    """A trained translation run: its model in evaluation mode, its tokenizer, and the recipe it was trained with.

    `max_source_tokens` is the longest source it was trained on, eos included; for an imported run its `max_seq_len`.
    >>> load_run("runs/de-en").max_source_tokens
    100
    """

    model: EncoderDecoder
    tokenizer: TranslationTokenizer
    recipe: dict[str, Any]
    max_source_tokens: int
    kind: ClassVar = "a translation run"
    used_by: ClassVar = "translate, or evaluate"
    door: ClassVar = "tz.translator"

    @property
    def source_language(self) -> str | None:
        """Code of the language that it translates from, if it is known."""
        return self.tokenizer.language_of_source or (self.recipe.get("data") or {}).get("source_lang")

    @property
    def target_language(self) -> str | None:
        """Code of the language that it translates to, if it is known."""
        return self.tokenizer.language_of_target or (self.recipe.get("data") or {}).get("target_lang")


@dataclass(frozen=True)
class TextRun:
    """A trained decoder-only run: its model in evaluation mode, its tokenizer, and the recipe it was trained with.
    >>> load_run("runs/letters").tokenizer.encode("Hi")
    [72, 105]
    """

    model: DecoderOnly
    tokenizer: Tokenizer
    recipe: dict[str, Any]
    kind: ClassVar = "a decoder-only run"
    used_by: ClassVar = "generate, or evaluate --file"
    door: ClassVar = "tz.writer"


@dataclass(frozen=True)
class EncoderRun:
    """A trained encoder alone: its model in evaluation mode, its tokenizer, and the recipe it was trained with.
    >>> load_encoder_run("runs/hidden").tokenizer.encode("Hi")
    [72, 105]
    """

    model: EncoderOnly
    tokenizer: Tokenizer
    recipe: dict[str, Any]
    kind: ClassVar = "a run of an encoder"
    used_by: ClassVar = "embed, or with a head for labels classify"
    door: ClassVar = "tz.embed, or with a head for labels tz.classify"


R = TypeVar("R", bound=Run | TextRun | EncoderRun)
M = TypeVar("M", bound=nn.Module)


def load_run(path: str | Path, *, device: str | torch.device = "cpu") -> Run | TextRun | EncoderRun:
    """Model, tokenizer and recipe of a run, or of a model that was trained elsewhere; its kind is found out.
    >>> load_run("runs/letters").model.config.vocab_size
    257

    Args:
        path: the folder of a run, a folder in Hugging Face's format, or a GGUF file. `package:NAME` is one of the
            latter two inside an installed package. It can also be the name of a run or a model on the hub, which is
            fetched once.
        device: the device that the model is put on.

    Raises:
        UserError: the folder or name does not exist, the run has no weights yet, a file is damaged, or files do not fit
            together.
    """
    from transformer_zoo.runs.huggingface import is_theirs, read_huggingface  # which itself makes runs

    if is_name(str(path)):
        folder = fetched_run(str(path))
    elif not is_theirs(path) and not Path(path).is_dir():
        raise UserError(f"{path}: no such run folder")
    else:
        folder = None if is_theirs(path) else Path(path)
    return read_huggingface(path, device=device) if folder is None else read_run(folder, device)


def read_run(folder: Path, device: str | torch.device = "cpu") -> Run | TextRun | EncoderRun:
    """The run in a folder of this package's format; errors as for `load_run`."""
    for name in ("model.json", "config.yaml", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}: it is not a run, or one whose training has not ended yet")
    about = read_model_json(folder)
    recipe, config = load_recipe(folder / "config.yaml"), about.config
    check_weights(config, torch.device(device))
    if isinstance(config, EncoderDecoderConfig):
        check_recipe(folder, recipe)
        model = _filled(EncoderDecoder(config), folder, device)
        tokenizer = TranslationTokenizer.load(folder / "tokenizer")
        check_translation_tokenizer(folder, config, tokenizer)
        return Run(model, tokenizer, recipe, about.max_source_tokens or config.max_seq_len)
    text_tokenizer = Tokenizer.load(folder / "tokenizer")
    check_text_tokenizer(folder, config, text_tokenizer, about.tokenizer)
    if isinstance(config, EncoderConfig):
        return EncoderRun(_filled(EncoderOnly(config), folder, device), text_tokenizer, recipe)
    writer = DecoderOnly(replace(config, eos_id=text_tokenizer.eos_id))
    return TextRun(_filled(writer, folder, device), text_tokenizer, recipe)


def _filled(model: M, folder: Path, device: str | torch.device) -> M:
    """The model with the run's weights, in evaluation mode, on the device."""
    try:
        model.load_state_dict(load_weights(folder / "model.safetensors"))
    except RuntimeError as error:
        which = str(error).splitlines()[-1].strip()  # torch names the tensors below a heading
        raise UserError(
            f"{folder / 'model.safetensors'} does not fit model.json ({which}); put back the weights it was saved with"
        ) from None
    return model.to(device).eval()


def of_kind(run: Run | TextRun | EncoderRun, path: str | Path, *kinds: type[R]) -> R:
    """The run, if it is of one of these kinds. UserError: it is of another kind; the message says what that is for."""
    if not isinstance(run, kinds):
        needed = " or ".join(kind.kind for kind in kinds)
        raise UserError(f"{path} is {run.kind}, where {needed} is needed; it is for {run.used_by}")
    return run


def load_writer(path: str | Path, *, device: str | torch.device = "cpu") -> Run | TextRun:
    """`load_run` for a model that writes. An encoder alone is refused with a UserError."""
    return cast("Run | TextRun", of_kind(load_run(path, device=device), path, Run, TextRun))


def load_translation_run(path: str | Path, *, device: str | torch.device = "cpu") -> Run:
    """`load_run` for an encoder-decoder. Any other model is refused with a UserError.
    >>> load_translation_run("runs/de-en").tokenizer.target.decode([125, 105, 119])
    'yes'
    """
    return of_kind(load_run(path, device=device), path, Run)


def load_text_run(path: str | Path, *, device: str | torch.device = "cpu") -> TextRun:
    """`load_run` for a decoder-only model. Any other model is refused with a UserError.
    >>> load_text_run("runs/letters").tokenizer.decode([72, 105])
    'Hi'
    """
    return of_kind(load_run(path, device=device), path, TextRun)


def load_encoder_run(path: str | Path, *, device: str | torch.device = "cpu") -> EncoderRun:
    """`load_run` for an encoder alone. Any other model is refused with a UserError.
    >>> load_encoder_run("runs/hidden").model.config.mask_id
    258
    """
    return of_kind(load_run(path, device=device), path, EncoderRun)


def save_run(run: Run | TextRun | EncoderRun, folder: Path, recipe: dict[str, Any]) -> None:
    """Write the files of a run; `recipe` is the content of config.yaml.
    >>> save_run(load_run("runs/letters"), Path("runs/copy"), recipe={})
    >>> (Path("runs/copy") / "model.safetensors").exists()
    True
    """
    run.tokenizer.save(folder / "tokenizer")
    if isinstance(run, Run):
        about = ModelJson(run.model.config, max_source_tokens=run.max_source_tokens)
    else:
        about = ModelJson(run.model.config, tokenizer=run.tokenizer.fingerprint)
    write_model_json(folder, about)
    save_weights(folder / "model.safetensors", {name: x.contiguous() for name, x in run.model.state_dict().items()})
    save_recipe(folder / "config.yaml", recipe)
