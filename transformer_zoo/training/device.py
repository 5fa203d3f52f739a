"""The device that a run computes on, and its precision."""

import ctypes
import importlib.util
import os
import shutil
import sys

import numpy as np
import torch

from transformer_zoo.errors import UserError
from transformer_zoo.kernels.cpu import cpu_has_bfloat16


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device called `name`; `auto` prefers this process's GPU with CUDA, then Apple's with MPS, then the CPU.

    Raises:
        UserError: the name is unknown, or there is no such GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device: {name!r} is not a device; use auto, cpu, cuda, cuda:N or mps") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device: {name} is not supported; use auto, cpu, cuda, cuda:N or mps")
    if device.type == "cpu":
        return device
    if device.index is not None and local_rank > 0:
        raise UserError(f"device: {name} is one GPU, and several processes train: give {device.type}, for one each")
    index = local_rank if device.index is None else device.index
    count = torch.cuda.device_count() if device.type == "cuda" else int(torch.backends.mps.is_available())
    if index >= count:
        raise UserError(f"device: {name} asks for GPU {index}, and {count} are here")
    return torch.device(device.type, index)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """torch.float32 or torch.bfloat16; `auto` takes bfloat16 only where the hardware multiplies it fast.

    A CPU without bfloat16 instructions emulates them, several times slower than float32. An Apple GPU gets float32.
    """
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        with torch.cuda.device(device):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and cpu_has_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def use_tf32(device: torch.device) -> None:
    """Let a GPU round factors of float32 products to 10 bits of mantissa out of 23. (bfloat16 has 7.)"""
    if device.type == "cuda":
        # torch.backends.cuda.matmul.fp32_precision is not used: torch.compile asks for the older name, and fails then.
        torch.set_float32_matmul_precision("high")


def use_compile(name: str, device: torch.device, *, say: bool = True) -> bool:
    """Whether to use torch.compile. `auto` uses it on CUDA if nothing is missing, and (if `say`) prints what is
    missing."""
    if name != "auto" or device.type != "cuda":
        return name == "always"
    # Triton writes the kernels, and builds their launchers with a C compiler.
    missing = [] if importlib.util.find_spec("triton") else ["the package triton"]
    if not any(shutil.which(name) for name in (os.environ.get("CC"), "gcc", "clang") if name):
        missing.append("a C compiler")
    if missing and say:
        print(f"compile: auto: without torch.compile, which needs {' and '.join(missing)}", flush=True)
    return not missing


def tune_malloc() -> bool:
    """Keep freed memory in the process; returns whether that is possible (Linux with glibc).

    By default glibc returns the pages of every big tensor to the system; the next step gets them again by page faults,
    filled with zeros. Variables that already tune glibc (`MALLOC_...`, `GLIBC_TUNABLES`) or replace the allocator
    (`LD_PRELOAD`) take precedence.
    """
    if not sys.platform.startswith("linux") or "LD_PRELOAD" in os.environ or "GLIBC_TUNABLES" in os.environ:
        return False
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, 2**31 - 1))


def seed_all(*numbers: int) -> None:
    """Seed the generators of the CPU and, if one is in use, of the current GPU with a mix of `numbers`.

    `torch.manual_seed` does the same for every possible kind of device, which takes a millisecond.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)
    torch.mps.manual_seed(seed)  # does nothing where torch has none


# Dense bfloat16 operations per second from NVIDIA's data sheets, by a part of the device's name.
_PEAK_BFLOAT16 = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "A100": 312e12,
    "L40S": 362e12, "L4": 121e12, "A10G": 70e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second that the device can do at most in this precision; 0 if it is not known."""
    if device.type != "cuda" or dtype != torch.bfloat16:
        return 0.0
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in _PEAK_BFLOAT16.items() if part in name), 0.0)
