"""A model made ready to translate or write on a CPU, and for nothing else."""

from copy import deepcopy
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from transformer_zoo.blocks import Int8Linear, Linear, ScreenedLinear, pack_weight
from transformer_zoo.blocks.linear import cpu_has_int8
from transformer_zoo.errors import UserError
from transformer_zoo.models.decoder_only import DecoderOnly
from transformer_zoo.models.encoder_decoder import EncoderDecoder

Model = TypeVar("Model", bound=DecoderOnly | EncoderDecoder)


def pack(model: Model) -> Model:
    """Lay out the weights of all projections as this CPU multiplies a few rows fastest, in place.

    It gains where four texts, hypotheses or guessed tokens and more are read at a time, and loses a little with one.
    Afterwards these weights are no parameters: the model can be neither trained nor saved, nor moved to another device.
    A tied head gets a copy of the embedding's matrix.

    Args:
        model: in float32 on a CPU; any other stays as it is, and so does one that is packed.

    Returns:
        The model, in evaluation mode.
    """
    model.eval()
    head = model.head_weight
    if not _is_plain(model):
        return model
    if model.head is None:
        model.head = Linear.of(head)
    for part in model.modules():
        if isinstance(part, Linear):
            weight = part.weight.detach()
            del part.weight
            part.weight = pack_weight(weight)
    model.requires_grad_(False)
    return model


def quantize(model: Model) -> Model:
    """A copy whose projections have 8-bit weights (`Int8Linear`), and which shares everything else with the model.

    Its logits are within a few per cent of the model's, and it reads a quarter of the memory: as a draft it guesses
    what the model would write, and the model reads several tokens at once. Its `logits` alone, given what the model
    computed before them, have the model's own highest one (`ScreenedLinear`, or the model's own head). All this is of
    the weights as they are now: quantize again when they have changed.

    Args:
        model: in float32 on a CPU, not packed yet.

    Returns:
        The copy, in evaluation mode. Its head keeps the model's own weights beside the rounded ones.

    Raises:
        UserError: any other model, or a torch without oneDNN.
    """
    if not _is_plain(model):
        raise UserError("only a model in float32 on a CPU is quantized, before it is packed, where torch has oneDNN")
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    copy: Model = deepcopy(model, shared)
    n_logits = model.config.vocab_size if isinstance(model, DecoderOnly) else model.config.target_size
    head = Linear.of(model.head_weight.detach()[:n_logits])  # without rows that pad the vocabulary
    copy.head = None
    parts: list[nn.Module] = list(copy.modules())
    for part in parts:
        for name, child in part.named_children():
            if isinstance(child, Linear):
                setattr(part, name, Int8Linear(child))
    copy.head = ScreenedLinear(head) if cpu_has_int8() else head  # type: ignore[assignment]
    copy.eval()
    return copy


def draft_of(model: Model) -> Model | None:
    """`quantize(model)` where a draft makes a single text faster: on a CPU, if reading weights is what takes time."""
    is_large = sum(weight.numel() for weight in model.parameters()) >= _WORTH_A_DRAFT
    return quantize(model) if is_large and _is_plain(model) and cpu_has_int8() else None


def check_draft(model: Model, draft: Model | None) -> None:
    """Is this `quantize(model)`, where there is one? UserError: it is of another model, even one of the same shape."""
    if draft is not None:
        mine = {id(weight) for weight in model.parameters()}
        if draft.config != model.config or not any(id(weight) in mine for weight in draft.parameters()):
            raise UserError("the draft is not of this model: give quantize(model)")


def highest_logits(model: Model, draft: Model | None, hidden: Tensor) -> Tensor:
    """Logits of which only the highest of each row need be the model's: by the draft's head where that is faster.

    Args:
        model: what computed `hidden`.
        draft: `quantize(model)`, or None.
        hidden: (..., D).

    Returns:
        (..., V).
    """
    n_rows = hidden.numel() // hidden.size(-1)
    is_float32 = hidden.dtype == torch.float32 and not torch.is_autocast_enabled(hidden.device.type)
    helps = hidden.device.type == "cpu" and is_float32 and n_rows <= _MOST_ROWS
    return (model if draft is None or not helps else draft).logits(hidden)


_MOST_ROWS = 16  # with more, multiplying takes longer than reading
_WORTH_A_DRAFT = 20_000_000  # parameters; below, a step takes as long to begin as to read


def _is_plain(model: DecoderOnly | EncoderDecoder) -> bool:
    head = model.head_weight
    if any(isinstance(part, Int8Linear) for part in model.modules()):
        return False
    is_float = head.device.type == "cpu" and head.dtype == torch.float32 and not head.is_mkldnn
    return is_float and torch.backends.mkldnn.is_available()
