"""Settings chosen for bare text, compared with settings tuned by hand: five minutes of training each, three seeds.

    python recipes/benchmarks/five_minutes.py --tatoeba FOLDER --shakespeare FOLDER [--minutes 5] [--seeds 1 2 3]

The folders have eng-deu.tsv and input.txt (plain or .gz), as for the prepare.py of both corpora. `tuned` trains
recipes/translation/tatoeba_5min.yaml and recipes/gpt/shakespeare_5min.yaml. `chosen` gets the same training text by
`transformer-zoo train --pairs` and `--text`, and holds some of it out itself. Both are scored on the same text, which
neither has seen: BLEU of Tatoeba's test, bits per byte of Tiny Shakespeare's val.txt. The two run side by side, seed by
seed, each with half of the threads, so that a slow machine slows both. A run that was stopped is resumed by the same
command, and a finished run is not made again; all take half an hour. The machine should do nothing else.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

if not __package__:  # instead of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from recipes.benchmarks.speed import machine
from transformer_zoo.errors import UserError, run_program
from transformer_zoo.files import write_json

ROOT = Path(__file__).resolve().parents[2]
N_PAIRS = 20_000
SIDES = ("tuned", "chosen")
TEXTS = ("tatoeba", "shakespeare")
TRAIN: dict[str, dict[str, list[str]]] = {
    "tatoeba": {
        "tuned": [str(ROOT / "recipes/translation/tatoeba_5min.yaml")],
        "chosen": ["--pairs", "data/tatoeba/first_20k.en", "data/tatoeba/first_20k.de"],
    },
    "shakespeare": {
        "tuned": [str(ROOT / "recipes/gpt/shakespeare_5min.yaml")],
        "chosen": ["--text", "data/tinyshakespeare/train.txt"],
    },
}
SCORE = {
    "tatoeba": ["--source", "data/tatoeba/test.en", "--reference", "data/tatoeba/test.de"],
    "shakespeare": ["--file", "data/tinyshakespeare/val.txt"],
}
Scores = dict[str, dict[str, list[float]]]
"""Text, side, seed: its score."""


def parse_options(arguments: Sequence[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--tatoeba", type=str, required=True, help="folder with eng-deu.tsv, plain or .gz")
    add("--shakespeare", type=str, required=True, help="folder with input.txt, plain or .gz")
    add("--minutes", type=float, default=5.0, help="wall-clock time of each run's training")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], help="one run of each side for each")
    add("--texts", nargs="+", choices=TEXTS, default=list(TEXTS), help="on which is trained")
    add("--out", default="runs/five_minutes", help="folder of texts, runs and results")
    add("--json", default=None, type=str | None, help="write the results to this file instead of results.json there")
    return parser.parse_args(list(arguments))


def main(arguments: Sequence[str]) -> None:
    """Make all missing runs, then the tables."""
    options = parse_options(arguments)
    out = (Path(options.out).expanduser() / f"{options.minutes:g}_minutes").resolve()
    out.mkdir(parents=True, exist_ok=True)
    write_texts(out, {"tatoeba": options.tatoeba, "tinyshakespeare": options.shakespeare})
    found: Scores = {text: {side: [] for side in SIDES} for text in options.texts}
    for text in options.texts:
        for seed in options.seeds:
            with ThreadPoolExecutor() as both:
                futures = {side: both.submit(run, out, text, side, seed, options.minutes) for side in SIDES}
            for side, future in futures.items():
                found[text][side].append(future.result())
    report(Path(options.json or out / "results.json"), options.seeds, found)


def write_texts(out: Path, folders: Mapping[str, str]) -> None:
    """Both corpora as their prepare.py writes them, and the first 20,000 pairs, which are in the order of a hash."""
    for corpus, folder in folders.items():
        if not (out / "data" / corpus).is_dir():
            command(out, "prepare", corpus, "--from", str(Path(folder).expanduser().resolve()))
    tatoeba = out / "data" / "tatoeba"
    for side in ("en", "de"):
        lines = (tatoeba / f"train.{side}").read_bytes().splitlines(keepends=True)
        (tatoeba / f"first_20k.{side}").write_bytes(b"".join(lines[:N_PAIRS]))


def command(out: Path, *words: str) -> str:
    """The output of a command that runs in the folder; its messages are appended to log.txt."""
    threads = max(torch.get_num_threads() // len(SIDES), 1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    program = [sys.executable, "-m", "transformer_zoo", *words]
    with (out / "log.txt").open("a", encoding="utf-8") as log:
        done = subprocess.run(
            program, cwd=out, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False
        )
        log.write(done.stdout)
    if done.returncode:
        raise UserError(f"{' '.join(words)}: failed, see {out / 'log.txt'}")
    return done.stdout


def run(out: Path, text: str, side: str, seed: int, minutes: float) -> float:
    """Train if that is still to be done; returns the score, BLEU or bits per byte."""
    folder = f"runs/{text}_{side}_{seed}"
    if side == "tuned":
        options = ["--run_dir", folder, "--training.max_minutes", f"{minutes:g}"]
    else:
        options = ["--output", folder, "--minutes", f"{minutes:g}"]
    command(out, "train", *TRAIN[text][side], *options, "--seed", str(seed))
    found = json.loads(command(out, "evaluate", folder, *SCORE[text], "--json"))
    score = float(found["bits_per_byte"] if text == "shakespeare" else bleu_of(found))
    print(f"{text}, {side}, seed {seed}: {score:.4f}", flush=True)
    return score


def bleu_of(found: Mapping[str, Any]) -> float:
    """The only score in the output of `evaluate --json`."""
    [system] = found["systems"]
    [split] = system["splits"]
    [score] = split["scores"]
    return float(score["score"])


def report(file: Path, seeds: Sequence[int], found: Scores) -> None:
    """The tables and the verdicts, printed and written."""
    about = machine(torch.device("cpu"))
    print("\n" + "\n".join(f"{name}: {value}" for name, value in about.items()))
    words = {}
    for text, sides in found.items():
        print(f"\n{'BLEU' if text == 'tatoeba' else 'bits per byte'}, {text}:\n")
        print(f"| | {' | '.join(f'seed {seed}' for seed in seeds)} | mean |")
        print("|---|" + "--:|" * (len(seeds) + 1))
        for side, scores in sides.items():
            print(f"| {side} | {' | '.join(f'{score:.3f}' for score in scores)} | {mean(scores):.3f} |")
        words[text] = verdict(text, sides)
        print(f"\n{words[text]}")
    write_json(file, {"machine": about, "scores": found, "verdicts": words})


def verdict(text: str, sides: Mapping[str, Sequence[float]]) -> str:
    """Whether the chosen settings have 0.95 of the tuned ones' BLEU, or at most 1.05 times their bits."""
    ratio = mean(sides["chosen"]) / max(mean(sides["tuned"]), 1e-9)  # nothing is learned within seconds
    asked, reached = ("at least 0.95", ratio >= 0.95) if text == "tatoeba" else ("at most 1.05", ratio <= 1.05)
    return f"{text}: chosen / tuned {ratio:.3f}, asked {asked}: {'reached' if reached else 'not reached'}"


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
