"""Figures about an architecture, counted on a model without memory."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn

from transformer_zoo.blocks import forward_flops
from transformer_zoo.config import ModelConfig
from transformer_zoo.models import Decoder, DecoderOnly, EncoderDecoder, EncoderOnly
from transformer_zoo.models.empty import uninitialised
from transformer_zoo.zoo import build

Model = EncoderDecoder | DecoderOnly | EncoderOnly


@dataclass(frozen=True)
class Description:
    """Figures of one architecture.

    parameters: (part, number). A layer stands for all layers of its stack that have the same parts. Numbers are for the
        whole model, unless a part is said to be of one layer.
    forward_flops: operations per token; an encoder-decoder counts one token of the source and one of the target.
    weight_bytes: bytes of the weights.
    cache_bytes: bytes of keys and values of a text of `context` tokens (an encoder-decoder: of as many target tokens
        and as many source tokens). The cache keeps all tokens, even in layers with a sliding window.
    """

    parameters: list[tuple[str, int]]
    total: int
    context: int
    forward_flops: int
    weight_bytes: int
    cache_bytes: int


def outline(config: ModelConfig) -> Model:
    """The model of a configuration without memory for its weights: names and shapes, on the meta device."""
    with uninitialised("meta", torch.get_default_dtype()):
        model: Model = build(config)
    return model


def describe(
    model: Model | ModelConfig,
    *,
    context: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Description:
    """Figures of a model, or of the model of a configuration. context: number of tokens of a text; None:
    `max_seq_len`."""
    if not isinstance(model, nn.Module):
        model = outline(model)
    context = int(model.config.max_seq_len if context is None else context)
    total = sum(p.numel() for p in model.parameters())
    return Description(
        parameters=[(name, count) for name, count in _parts(model) if count],
        total=total,
        context=context,
        forward_flops=forward_flops(model, context),
        weight_bytes=total * dtype.itemsize,
        cache_bytes=_cached(model, context) * dtype.itemsize,
    )


def _cached(model: Model, context: int) -> int:
    """Number of elements in the cache of one text and one source; an encoder has no cache."""
    if not isinstance(decoder := getattr(model, "decoder", None), Decoder):
        return 0
    weight = model.head_weight
    memory = torch.empty(1, context, model.config.d_model, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        cache = decoder.new_cache(1, context, memory=memory, device=weight.device)
    held = [*(tensor for layer in cache.layers for tensor in layer.held), *chain(*filter(None, cache.memories))]
    return sum(tensor.numel() for tensor in held)


def _parts(model: Any) -> Iterator[tuple[str, int]]:
    """Name and number of parameters of the parts outside of stacks, and of the parts of stacks."""
    for name, weight in model.named_parameters(recurse=False):
        yield _label(model, name, weight), weight.numel()
    for name, part in model.named_children():
        if name in model.stacks:
            yield from _parts_of_stack(name, part, several=len(model.stacks) > 1)
        else:
            yield _label(model, name, part), _count(part)


def _parts_of_stack(stack_name: str, stack: Any, *, several: bool) -> Iterator[tuple[str, int]]:
    one = f"  one {stack_name + ' ' if several else ''}layer's"
    for name, part in stack.named_children():
        if name != "layers":
            yield f"{stack_name} {_label(stack, name, part)}", _count(part)
            continue
        yield f"{stack_name} layers", _count(part)
        seen: dict[str, int] = {}
        for layer in part:
            found: Counter[str] = Counter()
            for its_name, its_part in layer.named_children():
                found[_label(layer, its_name, its_part)] += _count(its_part)
            seen = {**found, **seen}
        yield from ((f"{one} {label}", count) for label, count in seen.items())


def _label(parent: Any, name: str, part: Any) -> str:
    own: str | None = getattr(part, "label", None)
    labels: dict[str, str] = getattr(parent, "labels", {})
    return own or labels.get(name, name)


def _count(part: nn.Module) -> int:
    return sum(weight.numel() for weight in part.parameters())
