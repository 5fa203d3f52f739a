"""Whether to use torch.compile, and what it needs beside torch."""

import importlib.util
import os
import shutil

import torch

from transformer_zoo.training.device import choose_compile


def use_compile(name: str, device: torch.device, *, say: bool = True) -> bool:
    """As `choose_compile`; but `auto` does without where something is missing, and (if `say`) prints what."""
    if not choose_compile(name, device):
        return False
    missing = missing_for_compile() if name == "auto" else []
    if missing and say:
        print(f"compile: auto: without torch.compile, which needs {' and '.join(missing)}", flush=True)
    return not missing


def missing_for_compile() -> list[str]:
    """What torch.compile would look for on a GPU and not find here.

    Triton writes the kernels, and builds their launchers with a C compiler: `CC`, gcc or clang.
    """
    missing = [] if importlib.util.find_spec("triton") else ["the package triton"]
    compilers = [os.environ.get("CC", ""), "gcc", "clang"]
    if not any(shutil.which(name) for name in compilers if name):
        missing.append("a C compiler")
    return missing
