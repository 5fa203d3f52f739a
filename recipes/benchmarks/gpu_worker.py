"""The process in which gpu.py runs its rows, one after the other; it is replaced when it dies, hangs or a row fails.

    python -m recipes.benchmarks.gpu_worker FILES [--rehearse]

Each line of standard input is a row's number in `ROWS` and its seconds, as JSON. The answers are lines of JSON: a
`figure` as soon as it is measured, then `end`: "" for a row that is done, else why there is no more of it, and whether
it `failed`. What libraries print goes to standard error.
"""

import gc
import json
import os
import platform
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recipes.benchmarks.gpu_rows import ROWS
from recipes.benchmarks.gpu_setting import NotHere, Setting
from recipes.benchmarks.speed import machine
from transformer_zoo.errors import UserError, printable
from transformer_zoo.training.device import tune_malloc

Say = Callable[..., None]


def about(device: torch.device) -> dict[str, str]:
    """What the figures depend on: device, versions, commit."""
    found = machine(device)
    versions = [f"Python {platform.python_version()}", found["packages"], f"CUDA {torch.version.cuda or 'none'}"]
    return {"device": found.get("gpu", found["cpu"]), "versions": ", ".join(versions), "commit": found["commit"]}


def run(number: int, setting: Setting, say: Say) -> bool:
    """One row; whether the next one can have this process."""
    torch.set_float32_matmul_precision("high")  # as the trainer has it, and nanoGPT's
    try:
        for figure in ROWS[number].figures(setting):
            say(figure=asdict(figure))
    except (NotHere, UserError, ImportError) as reason:
        say(end=printable(str(reason)), failed=False)
    except Exception as error:  # after an error of CUDA nothing works any more
        traceback.print_exc()
        first = (str(error).strip().splitlines() or [""])[0]
        say(end=printable(f"{type(error).__name__}: {first}"), failed=True)
        return False
    else:
        say(end="", failed=False)
    gc.collect()
    torch.compiler.reset()
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return True


def main() -> None:
    """Says what it runs on, then answers until standard input ends."""
    parser = ArgumentParser()
    parser.add_argument("files", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    def say(**message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    if not options.rehearse and not torch.cuda.is_available():
        return say(refused="no GPU is here that torch can use; --rehearse runs the same on the CPU with tiny sizes")
    device = torch.device("cpu" if options.rehearse else "cuda:0")
    if options.rehearse:  # Dynamo takes part, the compiler of kernels does not
        torch.compile = partial(torch.compile, backend="eager")
    tune_malloc()
    say(about=about(device))
    setting = Setting(device, options.rehearse, options.files)
    for line in sys.stdin:
        number, setting.seconds_left = json.loads(line)
        if not run(number, setting, say):
            return


if __name__ == "__main__":
    main()
