"""From a model of this package to transformers' files."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from transformer_zoo.checksums import MARK, write_sealed
from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.files import write_json
from transformer_zoo.models import AnyModel, check_model
from transformer_zoo.zoo import build_empty
from transformer_zoo.zoo.describe import outline
from transformer_zoo.zoo.families import FAMILIES
from transformer_zoo.zoo.huggingface.compare import differences
from transformer_zoo.zoo.huggingface.family import Config, Family, Weight
from transformer_zoo.zoo.huggingface.load import join, mirror
from transformer_zoo.zoo.huggingface.parts import end_ids, write_rules
from transformer_zoo.zoo.huggingface.rewrite import State, rewrite, unshare
from transformer_zoo.zoo.huggingface.sentences import write_sentences
from transformer_zoo.zoo.huggingface.source import waves_of


def to_huggingface(model: AnyModel, folder: str | Path, *, family: str | None = None) -> None:
    """Write a folder that transformers' `from_pretrained` loads with equal logits. The class is `AutoModelForCausalLM`
    or `AutoModelForSeq2SeqLM`; for an encoder it depends on the head: `AutoModelForMaskedLM`,
    `...ForSequenceClassification`, `...ForTokenClassification` or `AutoModel`.

    The folder gets config.json, model.safetensors and, for a model that writes, generation_config.json. It is created
    if necessary.
    >>> model = tz.create_model("gpt2", vocab_size=100, d_model=48)
    >>> to_huggingface(model, "exported")
    >>> torch.equal(tz.from_huggingface("exported").head_weight, model.head_weight)
    True

    Args:
        model: a model of this package.
        folder: where to write.
        family: a `model_type` of transformers, such as "llama"; None: the first family that can represent the whole
            model.

    Raises:
        UserError: no family, or not the wanted one, has a counterpart of some fields; the message names them.
    """
    check_model(model, "to_huggingface", writes=False)
    config, state, chosen, theirs = _in_their_form(model, family)
    tensors = their_tensors(chosen, theirs, state)
    if chosen.has_waves:
        tensors |= {name: waves.to(_dtype(state)) for name, waves in waves_of(chosen, theirs).items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt", "checksum": MARK}  # transformers wants to know which program wrote them
    write_sealed(folder / "model.safetensors", lambda part: save_file(tensors, part, metadata=metadata))
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    if isinstance(config, EncoderConfig):
        write_sentences(folder, config)
    else:
        write_json(folder / "generation_config.json", generation_fields(config))
    write_json(folder / "config.json", {**chosen.write(config), "torch_dtype": dtype})


def check_huggingface(config: Config) -> str:
    """Check that transformers has such a model; returns its `model_type`.
    >>> check_huggingface(tz.get_config("transformer-base"))
    'marian'

    Raises:
        UserError: as for `to_huggingface`.
    """
    _, _, family, _ = _in_their_form(outline(config), None)
    return family.model_type


def _in_their_form(model: AnyModel, name: str | None) -> tuple[Config, State, Family, Config]:
    """The model in the first of its forms that a family has, and the result of `choose` for that form.

    Raises:
        UserError: as for `choose`, with the first form.
    """
    refusals = []
    for config, state in _forms(model):
        try:
            return config, state, *choose(config, name)
        except UserError as refusal:
            refusals.append(refusal)
    raise refusals[0]


def _forms(model: AnyModel) -> Iterator[tuple[Config, State]]:
    config, state = rewrite(model)
    yield config, state
    if isinstance(config, EncoderDecoderConfig) and config.share_embeddings in ("inputs", "decoder"):
        yield unshare(config, state)  # few families can share only some of the three matrices
    if (as_it_turns := rewrite(model, keep_rotation=True))[0] != config:
        yield as_it_turns  # few rotate neighbouring dimensions together


def choose(config: Config, name: str | None = None) -> tuple[Family, Config]:
    """The family that computes what the configuration says, and the meaning of its config.json as a configuration.

    Raises:
        UserError: there is none; the message names the nearest family and what it lacks.
    """
    if name is not None and name not in FAMILIES:
        raise UserError(f"no family is called {name!r}; there are {', '.join(FAMILIES)}")
    tried: list[tuple[float, str]] = []
    for family in FAMILIES.values() if name is None else [FAMILIES[name]]:
        if family.config is not type(config):
            continue
        try:
            theirs = family.read(family.write(config))
        except UserError as error:
            tried.append((math.inf, f"{family.model_type} ({error})"))  # how near it is cannot be known
            continue
        if not (lost := differences(config, theirs)):
            return family, theirs
        fields = ", ".join(f"{field} {ours!r} (it has {other!r})" for field, (ours, other) in lost.items())
        tried.append((len(lost), f"{family.model_type}, which has no counterpart of {fields}"))
    if not tried:
        raise UserError(f"{name} is a family of another kind than this model")
    nearest = min(tried, key=lambda one: one[0])[1]
    raise UserError(f"transformers has no such model; nearest is {nearest}")


def their_tensors(family: Family, config: Config, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under the family's names, in its form; tensors that only their model has are zero.

    Args:
        family: the family whose names are used.
        config: configuration of a model that has all of their tensors.
        state: our tensors.

    Raises:
        UserError: some tensors do not exist in a model of this configuration.
    """
    wanted = build_empty(config, dtype=_dtype(state)).state_dict()
    if extra := sorted(state.keys() - wanted.keys()):
        raise UserError(f"{extra[0]} is not of the model that its configuration describes: it cannot be exported")
    parts: dict[str, list[tuple[Tensor, Weight]]] = defaultdict(list)
    for name, like in wanted.items():
        theirs, form = family.weight(name, config)
        tensor = state[name] if name in state else torch.zeros_like(like)
        parts[theirs].append((tensor.detach().cpu(), form))
    tensors = {theirs: _joined(pieces, config) for theirs, pieces in parts.items()}
    both = {old: new for old, new in family.renamed.items() if old in family.unused and new in tensors}
    tensors |= {old: tensors[new].clone() for old, new in both.items()}  # some readers ask for the one, some for both
    if family.spare_embedding is not None and "source_embedding.weight" in wanted:
        tensors[f"{family.spare_embedding}.weight"] = state["source_embedding.weight"].detach().cpu().clone()
    return tensors


def _dtype(state: Mapping[str, Tensor]) -> torch.dtype:
    return next(iter(state.values())).dtype


def _joined(pieces: list[tuple[Tensor, Weight]], config: Config) -> Tensor:
    """One tensor of theirs from ours; `pieces` are in the order queries, keys, values."""
    tensor, form = pieces[0]
    if form.part is not None:
        tensor = join([piece for piece, _ in sorted(pieces, key=lambda one: one[1].part or 0)], form, config)
    if form.mirrored:
        tensor = mirror(tensor, config)
    if form.transposed and tensor.dim() == 2:
        tensor = tensor.T
    return (tensor[None] if form.row else tensor).contiguous()


def generation_fields(config: DecoderConfig | EncoderDecoderConfig) -> dict[str, Any]:
    """generation_config.json: the special tokens, and the tokens that are not generated or are forced."""
    if isinstance(config, DecoderConfig):
        ids = {"bos_token_id": config.bos_id, "eos_token_id": end_ids(config), "pad_token_id": config.pad_id}
        never = [[token] for token in config.never_ids or ()] or None
        return {**ids, **({"bad_words_ids": never} if never else {}), **write_rules(config.rules)}
    return {
        "bos_token_id": config.bos_id,
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
        "decoder_start_token_id": config.bos_id,
        "forced_eos_token_id": config.forced_last_id,
        "bad_words_ids": [[token] for token in sorted(config.never)] or None,
        "max_length": config.max_seq_len,
        **write_rules(config.rules),
    }
