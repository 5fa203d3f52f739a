"""Whether a task fits into the memory: this is asked before work starts and answered in bytes."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from transformer_zoo.config import ModelConfig
from transformer_zoo.errors import UserError
from transformer_zoo.models.empty import n_parameters


def free_memory(device: torch.device, *, root: Path = Path("/")) -> float:
    """Bytes that this process can still take on the device; infinity if the system does not say.

    On a CPU it is what the system has available, swap included, within the limits of the process's control groups
    (version 1 and 2, and the groups around them) and of `ulimit -v`. A group's cache of files can be dropped, so it
    counts as free.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "meta":
        return math.inf
    memory = _numbers(root / "proc/meminfo")
    available = 1024 * (memory.get("MemAvailable", math.inf) + memory.get("SwapFree", 0))
    return max(0.0, min(available, _address_space(root), *_control_groups(root)))


def check_memory(needs: Mapping[str, int], device: torch.device, *, smaller: str) -> None:
    """Raise a UserError that says what to make `smaller`, if more bytes are needed than are free."""
    needed, free = sum(needs.values()), free_memory(device)
    if needed > free:
        parts = ", ".join(f"{name} {count:,}" for name, count in needs.items() if count)
        raise UserError(
            f"at least {needed:,} bytes of memory are needed ({parts}), and {free:,.0f} are free on {device}: {smaller}"
        )


def check_weights(config: ModelConfig, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
    """`check_memory` for the weights of a model alone."""
    needs = {"weights": n_parameters(config) * dtype.itemsize}
    check_memory(needs, device, smaller="take a smaller model, or a machine with more")


def _numbers(path: Path) -> dict[str, int]:
    """Lines such as `MemAvailable: 123 kB` or `inactive_file 123`, by their names; a number alone has the name ""."""
    try:
        lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    named = [["", *words] if len(words) == 1 else words for words in lines if words]
    return {words[0]: int(words[1]) for words in named if words[1].isdecimal()}


def _address_space(root: Path) -> float:
    try:
        import resource  # not on Windows
    except ImportError:
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    pages = (root / "proc/self/statm").read_text().split()[0]
    return limit - int(pages) * os.sysconf("SC_PAGE_SIZE")


def _control_groups(root: Path) -> Iterator[float]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / "sys/fs/cgroup" / controllers
        limit, usage, cached = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else ("memory.max", "memory.current", "inactive_file")
        )
        folder = top / name.lstrip("/")
        # Inside a container the group's own folder may not exist; its files are at the top then.
        for group in (folder, *(parent for parent in folder.parents if parent.is_relative_to(top))):
            most, used = _numbers(group / limit), _numbers(group / usage)
            if most and used:
                yield most[""] - used[""] + _numbers(group / "memory.stat").get(cached, 0)
