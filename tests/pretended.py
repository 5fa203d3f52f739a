"""A GPU that is not there: torch's meta device, whose tensors have shapes and no numbers, and a watch over it.

To ask one for a number, or for a shape that depends on numbers, raises an error; which tensors go from one device to
another is counted. So a CPU shows what a GPU would have to be waited for. A list as an index goes unseen: it is made
where it is used.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from transformer_zoo.inference.modes import LOOK_EVERY

GPU = torch.device("meta")


class Watch(TorchDispatchMode):
    """Counts the operations that are done, and the tensors that go from one device to another.

    A number that an operation on the GPU takes from a () tensor of the CPU is an argument, and no copy.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.crossings: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func)
        self.operations[name] += 1
        given = [*_tensors(args), *_tensors((kwargs or {}).values())]
        arguments = [x for x in given if "copy" in name or x.dim() or x.device.type != "cpu"]
        devices = {x.device.type for x in (*arguments, *_tensors([out]))}
        if len(devices) > 1:
            self.crossings[name + " without waiting" * bool((kwargs or {}).get("non_blocking"))] += 1
        return out


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among them, and in lists of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device knows no autocast and no random numbers, and is looked at once in three steps."""
    autocast, generator, tensor = torch.autocast, torch.Generator, torch.tensor

    def autocast_of(kind: str, *args: Any, **options: Any) -> AbstractContextManager[None]:
        return nullcontext() if kind == GPU.type else autocast(kind, *args, **options)

    class GeneratorOf(generator):  # type: ignore[misc, valid-type]
        def __new__(cls, device: Any = "cpu") -> Any:
            return generator.__new__(cls, "cpu")

    def tensor_of(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        made = tensor(data, **options)  # which goes to a GPU by a copy, and comes to be on the meta device without
        return made.to(torch.empty(0).device if device is None else device)

    monkeypatch.setattr(torch, "autocast", autocast_of)
    monkeypatch.setattr(torch, "tensor", tensor_of)
    monkeypatch.setattr(torch, "Generator", GeneratorOf)
    monkeypatch.setitem(LOOK_EVERY, GPU.type, 3)
