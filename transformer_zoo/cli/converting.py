"""Runs as files for transformers and for ctranslate2."""

import contextlib
import io
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transformer_zoo.errors import UserError, first_line
from transformer_zoo.files import write_json
from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.runs.load import Run, TextRun
from transformer_zoo.tokenizers import HuggingFaceTokenizer, TranslationTokenizer
from transformer_zoo.zoo.huggingface import to_huggingface

_TOLERANCE = 1e-3  # of a log-probability in float32
_N_COMPARED = 7  # tokens
_PAD_IS_ANY_TOKEN = ("gpt2", "gpt_neox", "bloom")  # its embedding learns, so that the model has no use for it
_CONVERTED = ("config.json", "generation_config.json", "model.safetensors")  # what is beside them is the tokenizer's


def write_huggingface(run: Run | TextRun, folder: Path) -> str:
    """Model and tokenizer as transformers reads them; returns the model's type.

    Raises:
        UserError: transformers has no such model, or no such tokenizer.
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


def _add_ids(paths: list[Path], run: Run | TextRun, **ids: int | None) -> None:
    """Tokens that the tokenizer knows of and the model's configuration here does not; None: nor does the tokenizer."""
    known = {name: i for name, i in ids.items() if i is not None and i < run.model.config.vocab_size}
    for path in paths if known else []:
        _add(path, known)


def write_ctranslate2(run: Run | TextRun, folder: Path, quantization: str | None = None) -> str:
    """The model as ctranslate2 reads it, by its own converter, and the tokenizer's files; returns the model's type.

    In float32 its log-probabilities are compared with ours before anything counts as written.

    Raises:
        UserError: the packages are missing, or ctranslate2 does not know such a model, or computes something else.
    """
    try:
        import ctranslate2
        import transformers
        from ctranslate2.converters import TransformersConverter
    except ImportError:
        raise UserError("for ctranslate2 two packages are needed: pip install ctranslate2 transformers") from None
    theirs, made = folder / "transformers", folder / "made"
    model_type = write_huggingface(run, theirs)
    model: EncoderDecoder | DecoderOnly = run.model
    if model_type == "marian":
        model = _with_pad_last(run.model, theirs)
    elif model_type in ("bart", "mbart"):  # the converter asks for fields that transformers no longer has
        _add(theirs / "config.json", {"normalize_before": model_type == "mbart", "normalize_embedding": True})
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    def convert(**options: Any) -> None:
        # transformers tells much that is not about this.
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
            TransformersConverter(str(theirs)).convert(str(made), force=True, **options)
        # A vocabulary without a token for the unknown knows everything; ctranslate2 wants one nevertheless.
        fields = json.loads((made / "config.json").read_text("utf-8"))
        end = fields.get("eos_token")
        _add(made / "config.json", {name: end for name in ("unk_token", "bos_token") if fields.get(name, end) is None})

    try:
        convert()
        far = _compare(ctranslate2, model, made)
        if quantization is not None:
            convert(quantization=quantization)
    except Exception as error:  # it has no errors of its own
        raise UserError(f"ctranslate2 does not convert this {model_type} ({first_line(error)})") from None
    if not far <= _TOLERANCE:
        raise UserError(
            f"ctranslate2 computes something else than this {model_type}: log-probabilities differ by {far:.3g}"
        )
    for path in [*made.iterdir(), *(path for path in theirs.iterdir() if path.name not in _CONVERTED)]:
        path.rename(folder / path.name)
    shutil.rmtree(theirs)
    made.rmdir()
    return model_type


def _add(path: Path, fields: dict[str, Any]) -> None:
    """More fields for a JSON file."""
    write_json(path, {**json.loads(path.read_text("utf-8")), **fields})


def _with_pad_last(model: Any, folder: Path) -> EncoderDecoder:
    """A Marian whose pad is the last id, as ctranslate2 takes for granted; `folder` is written anew with it.

    Raises:
        UserError: the model is none that ctranslate2 can have as a Marian.
    """
    config = model.config
    if config.share_embeddings != "all":
        raise UserError("ctranslate2 does not convert a Marian with two vocabularies")
    weight: Tensor = model.embedding.weight
    if config.bos_id != config.pad_id or bool(weight[config.pad_id].any()):
        raise UserError("ctranslate2 starts a Marian's target with zeros: not one with another bos_id than pad")
    last = config.vocab_size - 1
    if config.pad_id == last:
        return model  # type: ignore[no-any-return]
    order = [i for i in range(last + 1) if i != config.pad_id] + [config.pad_id]  # new id -> old id
    forced, never, rules = config.forced_last_id, config.never_ids, config.rules
    ids = {
        "pad_id": last,
        "bos_id": last,
        "eos_id": order.index(config.eos_id),
        "forced_last_id": None if forced is None else order.index(forced),
        "never_ids": None if never is None else tuple(map(order.index, never)),
        "rules": replace(
            rules,
            forced_first_id=None if rules.forced_first_id is None else order.index(rules.forced_first_id),
            never_first_ids=rules.never_first_ids and tuple(map(order.index, rules.never_first_ids)),
        ),
    }
    moved = EncoderDecoder(replace(config, **ids)).to(weight.dtype)
    rows = {"embedding.weight", "logit_bias"}
    moved.load_state_dict({name: x[order] if name in rows else x for name, x in model.state_dict().items()})
    to_huggingface(moved, folder, family="marian")
    vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
    write_json(folder / "vocab.json", {token: order.index(i) for token, i in vocabulary.items()})
    return moved


@torch.inference_mode()
def _compare(ctranslate2: Any, model: Any, folder: Path) -> float:
    """The largest difference between log-probabilities of some tokens, by ctranslate2 and by us.

    Among the tokens that both have: ctranslate2's Marian has no pad, which ours gives a little of the probability.
    """
    tokens: list[str] = json.loads(next(folder.glob("*vocabulary.json")).read_text("utf-8"))
    n, about = len(tokens), model.config
    special = {about.pad_id, about.bos_id, about.eos_id, getattr(about, "source_end_id", None)}
    usual = [i for i in range(min(n, about.vocab_size)) if i not in special]
    chosen = [usual[len(usual) * i // _N_COMPARED] for i in range(_N_COMPARED)]
    model.to("cpu").eval()
    if not model.facts.has_source:
        theirs = torch.tensor(np.array(ctranslate2.Generator(str(folder)).forward_batch([chosen])))  # (1, T, V)
        logits = model(torch.tensor([chosen])).float()
        n = min(theirs.size(-1), logits.size(-1))
        return float((logits[..., :n].log_softmax(-1) - theirs[..., :n].log_softmax(-1)).abs().max())
    config = model.config
    end = config.source_end
    words, start = [tokens[i] for i in chosen], json.loads((folder / "config.json").read_text("utf-8"))
    first = [tokens[config.bos_id]] if start["decoder_start_token"] is None else []  # then a prefix is to have it
    translator = ctranslate2.Translator(str(folder))
    [found] = translator.score_batch([[*words, tokens[end]]], [[*first, *words[::-1]]])
    target = torch.tensor([[config.bos_id, *chosen[::-1]]])
    log_probs = model(torch.tensor([[*chosen, end]]), target)[0, :, :n].float().log_softmax(-1)
    ours = log_probs.gather(1, torch.tensor([*chosen[::-1], config.eos_id])[:, None])[:, 0]
    return float((ours - torch.tensor(found.log_probs)).abs().max())
