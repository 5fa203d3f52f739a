"""Models that were trained elsewhere, used as runs."""

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from transformer_zoo.config import EncoderConfig, EncoderDecoderConfig
from transformer_zoo.errors import UserError, naming
from transformer_zoo.runs.load import EncoderRun, Run, TextRun
from transformer_zoo.runs.model_json import check_text_tokenizer, check_translation_tokenizer
from transformer_zoo.tokenizers import HuggingFaceTokenizer, import_translation_tokenizer
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.gguf import read_gguf_tokenizer
from transformer_zoo.training.tasks.translation import with_special_ids
from transformer_zoo.zoo.huggingface import from_huggingface, resolve
from transformer_zoo.zoo.huggingface.gguf import read_gguf
from transformer_zoo.zoo.huggingface.gguf_file import is_gguf


def read_huggingface(name: str | Path, *, device: str | torch.device = "cpu") -> Run | TextRun | EncoderRun:
    """A model and its tokenizer from a folder in Hugging Face's format, or from its hub."""
    folder = resolve(name)
    return imported_run(from_huggingface(folder, device=device), folder)


def is_theirs(name: str | Path) -> bool:
    """Whether there is a model in Hugging Face's or llama.cpp's format, and not a run."""
    place = Path(name)
    has_theirs = (place / "config.json").exists() or any(place.glob("*.gguf"))
    return str(name).startswith("package:") or is_gguf(place) or (has_theirs and not (place / "model.json").exists())


def imported_run(model: Any, folder: Path) -> Run | TextRun | EncoderRun:
    """A model that was read from a folder in Hugging Face's format, with the tokenizer in it.

    The tokenizer decides what a text starts and ends with: the model's `bos_id` and `eos_id` become the tokenizer's.

    Raises:
        UserError: no tokenizer can be read, or it does not fit the model.
    """
    if isinstance(model.config, EncoderDecoderConfig):
        tokenizer = import_translation_tokenizer(folder)
        model.config = with_special_ids(model.config, tokenizer)
        check_translation_tokenizer(folder, model.config, tokenizer)
        return Run(model.eval(), tokenizer, {}, model.config.max_seq_len)
    text_tokenizer = HuggingFaceTokenizer.of(_tokenizer_files(folder))
    if isinstance(model.config, EncoderConfig):
        named = text_tokenizer.files.token("mask_token"), "[MASK]", "<mask>"
        known = [i for token in named if token and (i := text_tokenizer.vocabulary.ids.get(token)) is not None]
        model.config = replace(model.config, mask_id=known[0] if known else None)
        return EncoderRun(model.eval(), text_tokenizer, {})
    bos_id = text_tokenizer.start_ids[0] if text_tokenizer.start_ids else None
    ends = dict.fromkeys([text_tokenizer.eos_id, model.config.eos_id, *(model.config.stop_ids or ())])
    stops = tuple(token for token in ends if token not in (None, text_tokenizer.eos_id))
    model.config = replace(model.config, bos_id=bos_id, eos_id=text_tokenizer.eos_id, stop_ids=stops or None)
    check_text_tokenizer(folder, model.config, text_tokenizer, None)
    return TextRun(model.eval(), text_tokenizer, {})


def _tokenizer_files(folder: Path) -> TokenizerFiles:
    """The tokenizer's settings in a folder, or those that a GGUF file corresponds to."""
    if not is_gguf(folder):
        return TokenizerFiles.read(folder)
    file = read_gguf(folder)
    return read_gguf_tokenizer(folder, file.metadata, file.fields)


def translating(run: Run | TextRun | EncoderRun, source: str | None, target: str | None, *, of: str) -> Run:
    """The run of a multilingual model, called `of`, for these languages; None: unchanged. It shares the weights.

    Raises:
        UserError: the model has no choice of languages, or not these.
    """
    if not isinstance(run, Run):
        kind = "decoder-only" if isinstance(run, TextRun) else "an encoder"
        raise UserError(f"{of} is {kind} and does not translate: leave source and target language out")
    with naming(of):
        tokenizer = run.tokenizer.with_languages(source, target)
    model = copy(run.model)
    model.config = with_special_ids(model.config, tokenizer)
    return replace(run, model=model, tokenizer=tokenizer)
