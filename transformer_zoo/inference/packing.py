"""Prepares a model to translate or write on a CPU, and for nothing else."""

from copy import deepcopy
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from transformer_zoo.errors import UserError
from transformer_zoo.inference.projections import Int8Linear, PackedLinear, ScreenedLinear, Source
from transformer_zoo.kernels.int8 import has_int8
from transformer_zoo.kernels.projection import BIG_WEIGHT, can_pack
from transformer_zoo.models import DecoderOnly, DecodingModel, EncoderDecoder, check_model

Model = TypeVar("Model", bound=DecoderOnly | EncoderDecoder)
Projection = PackedLinear | Int8Linear | ScreenedLinear


def pack(model: Model, *, in_place: bool = False) -> Model:
    """A copy that stores the weights of the head and of large projections as this CPU multiplies a few rows fastest.

    It is faster when four or more texts, hypotheses or guessed tokens are read at a time, and a little slower with one.
    Packed weights are not parameters: the copy can be neither trained nor saved, nor moved to another device. It
    shares everything else with the model. It has the weights as they are now, so pack again when they have changed.
    A tied head gets a copy of the embedding's matrix.
    >>> generate(pack(gpt), [[5]], max_new_tokens=9, seed=1) == generate(gpt, [[5]], max_new_tokens=9, seed=1)
    True

    Args:
        model: a model in float32 on a CPU. Any other model is returned as it is, and so is one that is packed already.
        in_place: pack the model itself, which needs no memory for a second set of weights.

    Returns:
        The packed model, in evaluation mode. The given model does not change, unless `in_place`.

    Raises:
        UserError: it is not a model, or it is quantized.
    """
    check_model(model, "pack")
    if not _is_plain(model):
        model.eval()
        return model
    packed = model if in_place else _sharing_copy(model)
    _replace(packed, PackedLinear, PackedLinear)
    if in_place:
        model.requires_grad_(False)
    return packed


def _sharing_copy(model: Model) -> Model:
    """A copy with its own modules, and with the model's own parameters and buffers."""
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    copy: Model = deepcopy(model, shared)
    return copy


def quantize(model: Model) -> Model:
    """A copy whose projections have 8-bit weights (`Int8Linear`). It shares everything else with the model.

    Its logits are within a few per cent of the model's, and it reads a quarter of the memory. As a draft it guesses
    what the model would write, and the model then reads several tokens at once. Its `logits` method, given the hidden
    states of the model, finds the model's own highest logit exactly (by `ScreenedLinear`, or the model's own head). All
    this belongs to the weights as they are now. When they have changed, the copy refuses to be used and must be made
    again.
    >>> torch.allclose(quantize(gpt)(torch.tensor([[5, 7]])), gpt(torch.tensor([[5, 7]])), atol=0.05)
    True

    Args:
        model: a model in float32 on a CPU, not packed yet.

    Returns:
        The copy, in evaluation mode. Its head keeps the model's own weights in addition to the rounded ones.

    Raises:
        UserError: any other model is given, or torch lacks oneDNN.
    """
    check_model(model, "quantize")
    if not _is_plain(model):
        raise UserError("only a model in float32 on a CPU is quantized, before it is packed, where torch has oneDNN")
    copy = _sharing_copy(model)
    _replace(copy, Int8Linear, ScreenedLinear if has_int8() else PackedLinear)
    return copy


def _replace(model: Model, projection: type[Projection], head: type[Projection]) -> None:
    """Replace a model's projections by those for writing, and add one for its logits, which may be tied."""
    model.eval()
    weight, bias = model.head_weight, getattr(model, "logit_bias", None)
    model.head = None
    for part in [*model.modules()]:
        for name, child in part.named_children():
            if isinstance(child, nn.Linear) and (projection is not PackedLinear or child.weight.numel() >= BIG_WEIGHT):
                setattr(part, name, projection(child.weight, child.bias))
    n = model.facts.vocab_size  # without rows that pad the vocabulary
    module = head(weight.detach()[:n], None if bias is None else bias.detach()[:n])
    module.source = Source(weight)
    model.head = module  # type: ignore[assignment]
    if bias is not None:
        model.logit_bias = None


def draft_of(model: Model) -> Model | None:
    """`quantize(model)` if a draft makes a single text faster: on a CPU, if most of the time goes into reading weights.
    >>> draft_of(gpt) is None  # so small a model writes as fast by itself
    True
    """
    check_model(model, "draft_of")
    is_large = sum(weight.numel() for weight in model.parameters()) >= _WORTH_A_DRAFT
    return quantize(model) if is_large and _is_plain(model) and has_int8() else None


def check_draft(model: Any, draft: Any) -> None:
    """Check that this is `quantize(model)` of the model's present weights, if it is given.

    Raises:
        UserError: it belongs to another model, even one of the same shape, or weights of either have changed since.
    """
    for part in chain(model.modules(), () if draft is None else draft.modules()):
        if isinstance(source := getattr(part, "source", None), Source):
            source.check(thorough=True)
    if draft is not None and not (draft.config == model.config and _is_made_of(draft, model)):
        raise UserError("the draft is not of this model as it is now: give quantize(model)")


def _is_made_of(draft: nn.Module, model: Any) -> bool:
    """Whether each rounded weight was made from the model's weight of the same name, or from that before it was
    packed."""
    theirs = dict(model.named_modules())
    for name, part in draft.named_modules():
        if not isinstance(source := getattr(part, "source", None), Source):
            continue
        mine = theirs.get(name)
        if isinstance(kept := getattr(mine, "source", None), Source):
            if not source.is_of(kept):
                return False
        elif source.weight() is not (model.head_weight if name == "head" else getattr(mine, "weight", None)):
            return False
    return True


def highest_logits(model: DecodingModel, draft: DecodingModel | None, hidden: Tensor) -> Tensor:
    """Logits of which only the highest in each row must be the model's. The draft's head computes them if that is
    faster.

    Args:
        model: the model that computed `hidden`.
        draft: `quantize(model)`, or None.
        hidden: (..., D).

    Returns:
        (..., V).
    """
    if draft is None or hidden.device.type != "cpu":
        return model.logits(hidden)
    n_rows = hidden.numel() // hidden.size(-1)
    is_float32 = hidden.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return (draft if is_float32 and n_rows <= _MOST_ROWS else model).logits(hidden)


_MOST_ROWS = 16  # multiplying more rows takes longer than reading
_WORTH_A_DRAFT = 20_000_000  # parameters; in smaller models a step takes as long to start as to read


def _is_plain(model: DecoderOnly | EncoderDecoder) -> bool:
    head = model.head_weight
    if any(isinstance(part, Int8Linear) for part in model.modules()):
        return False
    is_float = head.device.type == "cpu" and head.dtype == torch.float32 and not head.is_mkldnn
    return is_float and can_pack()
