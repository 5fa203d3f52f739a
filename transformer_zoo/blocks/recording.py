"""The attention weights of whole models, to draw them or to see what a head does."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn


@contextmanager
def record_weights(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """While it is open, the model stores the weights of each attention, (B, H, Tq, Tk), by the attention's name.

    They are the weights of the last call. They are computed by the slow path, without dropout and without fast kernels.
    >>> layer = EncoderLayer.paper(512, 8, 2048)
    >>> with record_weights(layer) as weights: _ = layer(torch.zeros(2, 5, 512))
    >>> weights["attn"].shape
    torch.Size([2, 8, 5, 5])

    Args:
        model: any module, such as a model, a stack or a layer, whose attentions take the argument `return_weights`.
    """
    found: dict[str, Tensor] = {}
    handles = []
    for name, part in model.named_modules():
        if "return_weights" in inspect.signature(part.forward).parameters:
            handles.append(part.register_forward_pre_hook(_ask, with_kwargs=True))
            handles.append(part.register_forward_hook(partial(_note, found, name)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _ask(part: nn.Module, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, {**options, "return_weights": True}


def _note(found: dict[str, Tensor], name: str, part: nn.Module, args: tuple[Any, ...], out: Any) -> Tensor:
    heard: Tensor
    heard, found[name] = out
    return heard
