"""Writes runs as files for transformers and for ctranslate2, and checks that before anything is trained."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.files import temporary_folder, umask, write_json
from transformer_zoo.runs.load import EncoderRun, Run, TextRun, load_run
from transformer_zoo.tokenizers import (
    HuggingFaceTokenizer,
    Tokenizer,
    TokenizerSettings,
    TranslationTokenizer,
    TranslationTokenizerSettings,
)
from transformer_zoo.tokenizers.kinds import kind_of
from transformer_zoo.zoo.ctranslate2 import check_ctranslate2
from transformer_zoo.zoo.huggingface import check_huggingface, to_huggingface

_TOLERANCE = 1e-3  # difference of a log-probability or of a hidden state in float32
_N_COMPARED = 7  # number of tokens
_PAD_IS_ANY_TOKEN = ("gpt2", "gpt_neox", "bloom")  # its embedding is learned, so the model does not need it


AnyRun = Run | TextRun | EncoderRun
Format = Literal["huggingface", "ctranslate2"]


def check_export(form: Format, config: Any, tokenizer: Any) -> None:
    """Check that a run of such a model, with such a tokenizer, can be written for another program.

    Args:
        form: the form of the other program.
        config: configuration of the model.
        tokenizer: the tokenizer, or the settings with which one will be made.

    Raises:
        UserError: it cannot be written; the message names what would have to change.
    """
    if form == "ctranslate2":
        check_ctranslate2(config)
        return
    model_type = check_huggingface(config)
    if isinstance(tokenizer, TranslationTokenizerSettings):
        if other := [kind for kind in tokenizer.kinds if kind != "sentencepiece"]:
            raise UserError(
                f"transformers has no counterpart of a translation's tokenizer of kind {other[0]}: take sentencepiece"
            )
    elif isinstance(tokenizer, TokenizerSettings):
        kind_of(tokenizer.kind).check_export(model_type)
    else:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.export(folder, model_type=model_type)


def export_run(run_dir: Path, form: Format) -> Path:
    """Write a finished run for another program, to `export` in its folder. An older export is replaced.

    Raises:
        UserError: as for `write_huggingface` and `write_ctranslate2`.
    """
    part, folder = temporary_folder(run_dir), run_dir / "export"
    try:
        (write_huggingface if form == "huggingface" else write_ctranslate2)(load_run(run_dir), part)
        part.chmod(0o777 & ~umask())  # temporary folders are made for their owner alone
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return folder


def write_huggingface(run: AnyRun, folder: Path) -> str:
    """Write model and tokenizer in the form of transformers; returns the model's type.

    Raises:
        UserError: transformers has no such model or no such tokenizer.
    """
    to_huggingface(run.model, folder)
    model_type: str = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
    run.tokenizer.export(folder, model_type=model_type)
    tokenizer, generation = run.tokenizer, folder / "generation_config.json"
    if isinstance(tokenizer, TranslationTokenizer):
        _add_ids([folder / "config.json", generation], run, bos_token_id=tokenizer.text_bos_id)
        _add_ids([generation], run, forced_bos_token_id=tokenizer.first_id)
    elif isinstance(tokenizer, HuggingFaceTokenizer) and model_type in _PAD_IS_ANY_TOKEN:
        _add_ids([folder / "config.json", generation], run, pad_token_id=tokenizer.special_id("pad_token"))
    return model_type


def _add_ids(paths: list[Path], run: AnyRun, **ids: int | None) -> None:
    """Add the ids of tokens that the tokenizer names and the model's configuration does not; None: neither does."""
    known = {name: i for name, i in ids.items() if i is not None and i < run.model.config.vocab_size}
    for path in paths if known else []:
        write_json(path, {**json.loads(path.read_text("utf-8")), **known})


def write_ctranslate2(run: AnyRun, folder: Path, quantization: str | None = None) -> str:
    """Write the model for ctranslate2, and the tokenizer's files; returns the name of the class that loads it.

    If transformers has no counterpart of the tokenizer, it is written to a folder of its own. The model's
    log-probabilities in float32, or an encoder's hidden states, are compared with ours before the export counts as
    written.

    Raises:
        UserError: the package is missing, lacks such a model, or computes something else.
    """
    try:
        import ctranslate2

        from transformer_zoo.zoo.ctranslate2.write import to_ctranslate2
    except ImportError:
        raise UserError("for ctranslate2 its package is needed: pip install ctranslate2") from None
    check_ctranslate2(run.model.config)
    tokens = _tokens(run)
    names = to_ctranslate2(run.model, folder, tokens)
    compared = _hidden_distance if isinstance(run, EncoderRun) else _distance
    far = compared(ctranslate2, run.model, folder, names)
    if not far <= _TOLERANCE:
        raise UserError(f"ctranslate2 computes something else than this model: its numbers differ by {far:.3g}")
    if quantization is not None:
        to_ctranslate2(run.model, folder, tokens, quantization=quantization)
    try:
        run.tokenizer.export(folder, model_type="")
    except UserError:  # ctranslate2 only asks for the names of the ids
        run.tokenizer.save(folder / "tokenizer")
    return {Run: "Translator", TextRun: "Generator", EncoderRun: "Encoder"}[type(run)]


def _tokens(run: AnyRun) -> list[list[str]]:
    """Names of the ids of source and target, or of a text, as in the tokenizer's files."""
    n = run.model.config.vocab_size
    if not isinstance(run, Run):
        return [_names(run.tokenizer, n)]
    return [_names(run.tokenizer.source, n), _names(run.tokenizer.target, run.model.config.target_size)]


def _names(tokenizer: Tokenizer, n: int) -> list[str]:
    """Names of n ids, some of which may stand for nothing."""
    try:
        fast = tokenizer.fast()
    except UserError:
        names = tokenizer.pieces
    else:
        names = [fast.id_to_token(i) or "" for i in range(tokenizer.vocab_size)]
    return [*names, *[""] * n][:n]


@torch.inference_mode()
def _distance(ctranslate2: Any, model: Any, folder: Path, names: list[list[str]]) -> float:
    """The largest difference between the log-probabilities of some tokens in ctranslate2 and here."""
    model, config, facts = model.to("cpu").eval(), model.config, model.facts
    special = {*facts.ends, *facts.never, config.pad_id, config.bos_id, getattr(config, "source_end_id", None)}
    chosen = _some_tokens([i for i in range(min(config.vocab_size, facts.vocab_size)) if i not in special])
    if not facts.has_source:
        theirs = torch.tensor(np.array(ctranslate2.Generator(str(folder)).forward_batch([chosen])))  # (1, T, V)
        ours = _log_probs(model(torch.tensor([chosen])), facts.never)
        written = [i for i in range(facts.vocab_size) if i not in facts.never]
        return float((_log_probs(theirs, ())[..., written] - ours[..., written]).abs().max())
    source, target = [*chosen, config.source_end], chosen[::-1]
    words = [[names[0][i] for i in source]], [[names[1][i] for i in target]]
    [found] = ctranslate2.Translator(str(folder)).score_batch(*words)
    log_probs = _log_probs(model(torch.tensor([source]), torch.tensor([[config.bos_id, *target]]))[0], facts.never)
    ours = log_probs.gather(1, torch.tensor([*target, config.eos_id])[:, None])[:, 0]
    return float((ours - torch.tensor(found.log_probs)).abs().max())


@torch.inference_mode()
def _hidden_distance(ctranslate2: Any, model: Any, folder: Path, names: list[list[str]]) -> float:
    """The largest difference between the hidden states of some tokens in ctranslate2 and here."""
    model, config = model.to("cpu").eval(), model.config
    chosen = _some_tokens([i for i in range(config.vocab_size) if i not in (config.pad_id, config.mask_id)])
    theirs = ctranslate2.Encoder(str(folder)).forward_batch([chosen]).last_hidden_state  # (1, T, D)
    ours = model.hidden(torch.tensor([chosen]))
    return float((torch.tensor(np.array(theirs)) - ours).abs().max() / ours.std())


def _some_tokens(ids: Sequence[int]) -> list[int]:
    return [ids[len(ids) * i // _N_COMPARED] for i in range(_N_COMPARED)]


def _log_probs(logits: Tensor, never: Sequence[int]) -> Tensor:
    """Log-probabilities normalised over the tokens that may be written."""
    return logits.float().index_fill(-1, torch.tensor(never, dtype=torch.int64), -torch.inf).log_softmax(-1)
