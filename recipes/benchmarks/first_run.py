"""The result of a first run: README's five lines on 20,000 pairs of Tatoeba, in an older commit and in this one.

    python recipes/benchmarks/first_run.py --tatoeba FOLDER [--minutes 5] [--seeds 1 2 3] [--sides old new tuned]

FOLDER has eng-deu.tsv (plain or .gz), as for data/tatoeba/prepare.py, whose split is used: no held-out sentence is in
the training text. Each side reads the five lines from its own README. The sides alternate, seed by seed. All train for
the same wall-clock time, the only limit of a run: `max_epochs` of the five lines is left out. A run that was stopped is
resumed by the same command, and a finished run is not made again. The machine should do nothing else.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

if not __package__:  # instead of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from recipes.benchmarks.speed import machine
from transformer_zoo.data import ParallelFiles, read_parallel
from transformer_zoo.errors import UserError, run_program
from transformer_zoo.files import write_json, write_text

ROOT = Path(__file__).resolve().parents[2]
N_TRAIN, N_HELD_OUT = 20_000, 500
FIVE_LINES = re.compile(r"^```yaml\n# mine\.yaml\n(.*?)^```$", re.M | re.S)
# Settings found by trials on Multi30k (docs/notebook.md) that fit these minutes, on top of this commit's five lines.
TUNED: dict[str, Any] = {
    "model": {"preset": "transformer-small", "d_model": 160, "d_ff": 512, "norm_position": "pre", "dropout": 0.1},
    "optimizer": {"name": "muon", "lr": 6e-3, "weight_decay": 0.1},
    "schedule": {"name": "linear", "warmup": 50},
    "validation": {"every": 1000, "samples": 0},
    "checkpoint": {"final_weights": "last"},
    "test": {"length_penalty": 1.0},
}
SIDES = ("old", "new", "tuned")


def parse_options(arguments: Sequence[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--tatoeba", type=str, required=True, help="folder with eng-deu.tsv, plain or .gz")
    add("--old", default="b60fcc5", help="commit that this one is compared with")
    add("--minutes", type=float, default=5.0, help="wall-clock time of each run's training")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], help="one run of each side for each")
    add(
        "--sides", nargs="+", choices=SIDES, default=list(SIDES), help="which are trained; the others are read if there"
    )
    add("--out", default="runs/first_run", help="folder of texts, runs and results")
    add("--json", default=None, type=str | None, help="write the results to this file instead of results.json there")
    return parser.parse_args(list(arguments))


def main(arguments: Sequence[str]) -> None:
    """Make all missing runs, then the table."""
    options = parse_options(arguments)
    out = (Path(options.out).expanduser() / f"{options.minutes:g}_minutes").resolve()
    out.mkdir(parents=True, exist_ok=True)
    write_pairs(Path(options.tatoeba).expanduser(), out)
    for seed in options.seeds:
        for side in options.sides:
            if score(out, side, seed) is None:
                train(out, side, seed, options)
    report(out, options)


def write_pairs(folder: Path, out: Path) -> None:
    """20,000 training pairs, and 500 for validation and test each: the first in the order of the split's hash."""
    spec = importlib.util.spec_from_file_location("tatoeba", ROOT / "data" / "tatoeba" / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    tatoeba = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tatoeba)
    if (out / "test.tsv").exists():
        return
    whole, wanted = out / "tatoeba", {"train": ("pairs", N_TRAIN), "val": ("held_out", N_HELD_OUT)}
    tatoeba.prepare(from_=folder, out=whole)
    for part, (name, count) in {**wanted, "test": ("test", N_HELD_OUT)}.items():
        text = read_parallel(ParallelFiles(source=str(whole / f"{part}.en"), target=str(whole / f"{part}.de")))
        pairs = list(zip(text.source, text.target, strict=True))[:count]
        write_text(out / f"{name}.tsv", "".join(f"{source}\t{target}\n" for source, target in pairs))


def worktree(commit: str, out: Path) -> Path:
    """The repository as it was at a commit."""
    folder = out.parent / f"worktree_{commit}"
    if not folder.exists():
        command = ["git", "-C", str(ROOT), "worktree", "add", "--detach", str(folder), commit]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"--old: git cannot check out {commit} ({done.stderr.strip().splitlines()[-1]})")
    return folder


def recipe(source: Path, out: Path, side: str, seed: int, minutes: float) -> Path:
    """The YAML of a run: five lines, a test, a seed, and time as the only limit."""
    found = FIVE_LINES.search((source / "README.md").read_text("utf-8"))
    if found is None:
        raise UserError(f"{source / 'README.md'} has no mine.yaml")
    fields: dict[str, Any] = yaml.safe_load(found[1])
    if side == "tuned":
        fields |= TUNED
    fields["run_dir"], fields["seed"] = str(out / f"{side}_{seed}"), seed
    fields["data"]["tests"] = {"test": {"tsv": "test.tsv"}}
    fields["training"] = {**fields["training"], "max_minutes": minutes, "max_updates": 10_000_000}
    fields["training"].pop("max_epochs", None)
    path = out / f"{side}_{seed}.yaml"
    write_text(path, yaml.safe_dump(fields, sort_keys=False))
    return path


def train(out: Path, side: str, seed: int, options: Namespace) -> None:
    """One run, in a process of its own, with the package of its side."""
    source = worktree(options.old, out) if side == "old" else ROOT
    path = recipe(source, out, side, seed, options.minutes)
    print(f"{side}, seed {seed}", flush=True)
    script = source / "recipes" / "translation" / "train.py"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    with (out / f"{side}_{seed}.log").open("a", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, str(script), path.name], cwd=out, env=environment, stdout=log, stderr=log, check=False
        )
    if done.returncode:
        raise UserError(f"{side}, seed {seed}: training failed, see {out / f'{side}_{seed}.log'}")


def score(out: Path, side: str, seed: int) -> dict[str, Any] | None:
    """The test results of a finished run, and the number of its updates; None for one that is not finished."""
    path = out / f"{side}_{seed}" / "results.json"
    if not path.is_file():
        return None
    results = json.loads(path.read_text("utf-8"))
    test = results["tests"]["test"]
    return {"bleu": test["bleu"], "updates": results["step"]}


def report(out: Path, options: Namespace) -> None:
    """The table and the verdict, printed and written."""
    found = {side: {seed: score(out, side, seed) for seed in options.seeds} for side in SIDES}
    known = {side: [run["bleu"] for run in runs.values() if run] for side, runs in found.items()}
    means = {side: mean(bleu) for side, bleu in known.items() if bleu}
    about, words = machine(torch.device("cpu")), verdict(means)
    print("\n" + "\n".join(f"{name}: {value}" for name, value in about.items()))
    print(f"BLEU on {N_HELD_OUT} sentences after {options.minutes:g} minutes, in brackets the updates:\n")
    print(f"| | {' | '.join(f'seed {seed}' for seed in options.seeds)} | mean |")
    print("|---|" + "--:|" * (len(options.seeds) + 1))
    for side, runs in found.items():
        cells = [f"{run['bleu']:.2f} ({run['updates']:,})" if run else "" for run in runs.values()]
        print(f"| {side} | {' | '.join(cells)} | {means[side]:.2f} |" if side in means else f"| {side} |")
    print(f"\n{words}")
    file = Path(options.json or out / "results.json")
    write_json(file, {"machine": about, "runs": found, "means": means, "verdict": words})


def verdict(means: dict[str, float]) -> str:
    """Whether this commit has twice the old one's BLEU, or, if that is above 12, nine tenths of the tuned one's."""
    if "old" not in means or "new" not in means:
        return "old and new are both needed for a verdict"
    asked, what = 2 * means["old"], f"twice that of old, {means['old']:.2f}"
    if asked > 12 and "tuned" in means:
        asked, what = 0.9 * means["tuned"], f"nine tenths of tuned, {means['tuned']:.2f}"
    reached = "reached" if means["new"] >= asked else "not reached"
    return f"asked: {asked:.2f}, {what}; new: {means['new']:.2f}, {reached}"


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
