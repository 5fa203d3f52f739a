"""Models whose weights are still to come. They are made without writing weights, which takes longer than reading
them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from transformer_zoo.config import ModelConfig
from transformer_zoo.models.family import build_model

_FILLS = ("normal_", "uniform_", "trunc_normal_", "zero_", "fill_")


class _NoFilling(TorchFunctionMode):
    """Skip filling tensors with a constant or with random numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", None) in _FILLS or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def uninitialised(device: str | torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Modules built inside have parameters of this device and type without values, so their memory is not touched.

    On torch's meta device, random initialisation would load 80 MB of code first, and tables would come out empty.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), _NoFilling():
            yield
    finally:
        torch.set_default_dtype(before)


def n_parameters(config: ModelConfig) -> int:
    """Number of parameters of the model that `build_model` builds; a shared matrix counts once.

    Equal layers are built once, on torch's meta device.
    """
    turns = {name: replace(stack, n_layers=len(stack.turns)) for name, stack in config.stacks()}
    with uninitialised("meta", torch.float32):
        model: nn.Module = build_model(replace(config, **turns))  # type: ignore[arg-type]
    total: int = sum(weight.numel() for weight in model.parameters())
    for name, stack in config.stacks():
        layers = [sum(w.numel() for w in layer.parameters()) for layer in getattr(model, name).layers]
        total += sum(layers[i % len(layers)] for i in range(len(layers), stack.n_layers))
    return total
