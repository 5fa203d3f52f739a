"""A busy machine: one training alone and two side by side, as they choose their threads and at every fixed choice.

Each figure is target tokens a second of one training, from its first line of metrics on, all the while that the other
one runs too. The bar: what the trainings choose is at least 0.9 of the best fixed choice, alone and side by side.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from .counts import Count
from .tiny import ROOT, write_pairs

WHOLE, SHORT = 3, 0  # rounds
SECONDS = 30.0  # of a training
BAR = 0.9
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ADAPTING: dict[str, str] = {}
FIXED = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    **{
        f"all threads, GOMP_SPINCOUNT={count or 'unset'}": {"OMP_NUM_THREADS": str(CORES)}
        | ({"GOMP_SPINCOUNT": count} if count else {})
        for count in ("", "20000", "1000", "0")
    },
}


def write_recipe(folder: Path) -> Path:
    """The model, the batches and the optimizer of `make demo`, on sentences of six words."""
    fields: dict[str, Any] = yaml.safe_load((ROOT / "recipes/translation/numbers.yaml").read_text("utf-8"))
    fields["data"] |= {
        "train": write_pairs(folder, "train", 20_000, 1),
        "validation": write_pairs(folder, "val", 20, 2),
    }
    fields["data"]["tests"] = {}
    fields["tokenizer"] = {"model_type": "bpe", "vocab_size": 48, "joint": True}
    fields["training"] |= {"max_updates": 1_000_000, "log_every": 2}
    fields["validation"] = {"every": 1_000_000}
    fields["checkpoint"] = {"every": 1_000_000, "final_weights": "last"}
    path = folder / "busy.yaml"
    path.write_text(yaml.safe_dump(fields), "utf-8")
    return path


def speeds(recipe: Path, folder: Path, environment: dict[str, str], n: int) -> list[float]:
    """Target tokens a second of each of n trainings that begin together."""
    fixed = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
    clean = {name: value for name, value in os.environ.items() if name not in fixed} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "recipes/translation/train.py"), str(recipe), "--run_dir"]
    files = [folder / f"run_{len(list(folder.iterdir()))}_{number}" for number in range(n)]
    runs = [
        subprocess.Popen(
            [*command, str(run)], env=clean | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for run in files
    ]
    try:
        metrics = [run / "metrics.jsonl" for run in files]
        while any(not file.exists() or not file.stat().st_size for file in metrics):
            if ended := [run for run in runs if run.poll() is not None]:
                raise RuntimeError(ended[0].communicate()[1].decode())
            time.sleep(0.1)
        time.sleep(SECONDS)
    finally:
        for run in runs:
            run.kill()  # a collapsed one may take long to its next update
            run.communicate()
    found = []
    for file in metrics:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        spent = max(SECONDS, lines[-1]["seconds"] - lines[0]["seconds"])
        found.append((lines[-1]["tokens"] - lines[0]["tokens"]) / spent)
    return found


def run(n: int, seed: int) -> Iterator[Count]:
    """n rounds of all choices in turn, each round beginning with another; medians are compared."""
    choices = {"as it chooses": ADAPTING, **FIXED}
    order = list(choices)
    with TemporaryDirectory() as name:
        recipe = write_recipe(Path(name))
        for what, together in (("alone", 1), ("side by side", 2)):
            measured: dict[str, list[float]] = {choice: [] for choice in choices}
            for number in range(n):
                first = (seed + number) % len(order)
                for choice in order[first:] + order[:first]:
                    found = speeds(recipe, Path(name), choices[choice], together)
                    measured[choice].append(statistics.mean(found))
                    print(f"busy: {what}, {choice}: {', '.join(f'{speed:,.0f}' for speed in found)}", flush=True)
            medians = {choice: statistics.median(values) for choice, values in measured.items()}
            best = max(FIXED, key=medians.__getitem__)
            ratio = medians["as it chooses"] / medians[best]
            notes: dict[str, int | float | str] = {"tokens/s": round(medians["as it chooses"])}
            notes |= {f"of {medians[best]:,.0f} at {best}": round(ratio, 3)}
            yield Count(what, n, {f"below {BAR}": int(ratio < BAR)}, notes)
