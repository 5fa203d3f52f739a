"""Kills a training run with SIGKILL at one place after another and starts it again; prints which ends differ.

Run as a script: it imports torch once and forks a process for each run, which keeps twenty deaths cheap.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # slow to import, and here imported once
import torch.utils.tensorboard
from toy import toy_run

from transformer_zoo.training import loop


def in_a_process(work: Callable[[], object]) -> int:
    """The exit status of `work` in a fork of this process; -9 if it was killed."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at(module: Any, name: str, call: int, *, after: bool) -> None:
    """Replaces `module.name` by one that kills this process at its call number `call`."""
    original, count = getattr(module, name), 0

    def mortal(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **options)
        if count == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, name, mortal)


def half_a_file(state: Any, path: Path) -> None:
    """torch.save interrupted in the middle of the file."""
    whole = Path(f"{path}.whole")
    SAVE(state, whole)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    os.kill(os.getpid(), signal.SIGKILL)


SAVE = torch.save


def killed_run(run_dir: Path, kill: Callable[[], None]) -> bytes | None:
    """model.safetensors of a run that was killed once and started again; None if it was not killed."""

    def mortal_run() -> None:
        kill()
        toy_run(run_dir)

    if in_a_process(mortal_run) != -signal.SIGKILL:
        return None
    with (run_dir / "metrics.jsonl").open("ab") as file:
        file.write(b'{"kind": "tra')  # what a kill in the middle of a line leaves
    assert in_a_process(lambda: toy_run(run_dir)) == 0
    return (run_dir / "model.safetensors").read_bytes()


def places() -> dict[str, Callable[[], None]]:
    """Where to die, by name."""

    def at(module: Any, name: str, call: int, *, after: bool = False) -> Callable[[], None]:
        return lambda: die_at(module, name, call, after=after)

    return {
        "half of last.pt": lambda: setattr(torch, "save", half_a_file),
        **{f"update {n}": at(loop.Trainer, "_update", n) for n in (2, 9)},
        "the last update": at(loop.Trainer, "_update", 20, after=True),
        **{f"before rename {n}": at(os, "replace", n) for n in (1, 2, 3, 4, 8, 13)},
        **{f"after rename {n}": at(os, "replace", n, after=True) for n in (1, 2, 12, 13)},
        **{f"removal {n}": at(Path, "unlink", n) for n in (1, 2)},
    }


def main(folder: Path) -> None:
    assert in_a_process(lambda: toy_run(folder / "whole")) == 0
    whole = (folder / "whole" / "model.safetensors").read_bytes()
    run_dir = folder / "killed"
    for name, kill in places().items():
        weights = killed_run(run_dir, kill)
        if weights is None:
            print(f"{name}: was not killed")
        elif weights != whole:
            print(f"{name}: other weights")
        elif steps(run_dir) != steps(folder / "whole"):
            print(f"{name}: other lines of metrics")
        shutil.rmtree(run_dir)
    print(f"{len(places())} places")


def steps(run_dir: Path) -> list[tuple[str, int]]:
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [(record["kind"], record["step"]) for record in records]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
