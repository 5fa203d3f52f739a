"""Which instructions the CPU of this machine has, and which devices lack what it has."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

_SMALL_WEIGHT = 1 << 13
_WITHOUT_FLOAT64 = {"mps"}  # an Apple GPU


@cache
def cpu_has(*names: str) -> bool:
    """Whether this CPU has one of these instruction sets, by torch's names."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in names)


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products."""
    return cpu_has("avx512_bf16", "amx_bf16")


def cpu_has_int8() -> bool:
    """Whether this CPU has instructions for 8-bit products whose sums do not overflow."""
    return cpu_has("avx512_vnni")


def with_float64(device: torch.device) -> torch.device:
    """The device itself, or the CPU if it has no float64. Tensors move first and are widened then."""
    return torch.device("cpu") if device.type in _WITHOUT_FLOAT64 else device


def float32_is_as_fast(weight_elements: int) -> bool:
    """Whether a CPU multiplies bfloat16 by a weight of this size no faster than float32.

    Without instructions for it, torch emulates it. With them, oneDNN prepares a kernel for each number of rows, and
    keeps 1,024 of them. Each takes some milliseconds and 0.65 MB, which a small weight does not save again.
    """
    return weight_elements <= _SMALL_WEIGHT or not cpu_has_bfloat16()


def is_there(private: Callable[[], Tensor], wanted: Tensor) -> bool:
    """Whether this version of torch has a private operation that still gives the right result."""
    try:
        return torch.allclose(private(), wanted, rtol=0.02, atol=0.02)
    except Exception:  # a later version may fail in any way
        return False
