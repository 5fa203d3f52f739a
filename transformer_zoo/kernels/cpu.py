"""What the CPU of this machine has instructions for."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

_SMALL_WEIGHT = 1 << 13


@cache
def cpu_has(*names: str) -> bool:
    """Whether this CPU has any of these instruction sets, as torch names them."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in names)


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products."""
    return cpu_has("avx512_bf16", "amx_bf16")


def cpu_has_int8() -> bool:
    """Whether this CPU has instructions for products of 8 bits whose sums do not overflow."""
    return cpu_has("avx512_vnni")


def float32_is_as_fast(weight_elements: int) -> bool:
    """Whether a CPU multiplies bfloat16 by a weight of this size no faster than the same numbers in float32.

    Without instructions for it, torch emulates it. With them, oneDNN prepares a kernel for each number of rows, and
    keeps 1,024 of them: some milliseconds and 0.65 MB each, which a small weight does not bring in again.
    """
    return weight_elements <= _SMALL_WEIGHT or not cpu_has_bfloat16()


def is_there(private: Callable[[], Tensor], wanted: Tensor) -> bool:
    """Whether a private operation of torch is in this version, and still gives what is wanted."""
    try:
        return torch.allclose(private(), wanted, rtol=0.02, atol=0.02)
    except Exception:  # in whatever way a later version may refuse
        return False
