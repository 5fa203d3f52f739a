"""Single bits of a run's files flipped: each must be noticed in one line, or change neither weights nor outputs.

A run of each recipe ends after a part of its updates. For each bit it is put back as it was, the bit is flipped, and
then the run is used (translate, evaluate, generate) and trained to its end, as one that was not touched is.
"""

import os
import random
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch._dynamo  # slow to import, and here imported once
import torch.utils.tensorboard

from transformer_zoo.cli import main as command
from transformer_zoo.errors import run_program

from .counts import Count
from .tiny import main_of, write_recipe

WHOLE, SHORT = 300, 8
PART, END = 8, 12  # updates
HEAD = 300  # bytes: headers, of which bits are drawn more often than their share
KEPT = ("model.safetensors", "results.json", "test/*.hyp")  # what a run is trained for


@dataclass(frozen=True)
class Done:
    """What a process did: its exit status, what it said, and what came of it."""

    status: int
    errors: list[str]
    outputs: dict[str, bytes]


class Subject:
    """One recipe's run in `folder`, always in the same place, since its place is in its files."""

    def __init__(self, recipe: str, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.yaml, self.run_dir = write_recipe(folder, recipe), folder / "run"
        made = self.train(PART)
        assert made.status == 0, made
        assert self.use().status == 0
        self.run_dir.rename(folder / "untouched")
        self.files = sorted(
            path.relative_to(folder / "untouched")
            for path in (folder / "untouched").rglob("*")
            if path.is_file() and path.stat().st_size
        )
        self.put_back()
        self.whole = [self.use(), self.train(END)]
        assert [done.status for done in self.whole] == [0, 0], self.whole
        self.put_back()  # the end that the state before gives: schedules go by a limit that was another up to here
        (self.run_dir / "checkpoints" / "last.pt").unlink()
        self.before = self.train(END).outputs

    def put_back(self) -> None:
        shutil.rmtree(self.run_dir, ignore_errors=True)
        shutil.copytree(self.folder / "untouched", self.run_dir)

    def train(self, updates: int) -> Done:
        words = [str(self.yaml), "--training.max_updates", str(updates)]
        done = self._process(lambda: run_program(lambda: MAINS[self.recipe](words)))
        kept = [path for pattern in KEPT for path in self.run_dir.glob(pattern)]
        return Done(done.status, done.errors, {path.name: path.read_bytes() for path in kept})

    def use(self) -> Done:
        """Every command that reads a run; what they print is the output."""
        run, text = str(self.run_dir), str(self.folder / ("val.txt" if self.recipe == "gpt" else "val.en"))
        commands = {
            "translation": [["translate", run, "--input", text, "--beam", "1"], ["evaluate", run, "--beam", "1"]],
            "gpt": [
                ["generate", run, "--prompt", "the cat", "--max-new-tokens", "5", "--temperature", "0"],
                ["evaluate", run, "--file", text],
            ],
        }

        def work() -> int:
            return max([command(words) for words in commands[self.recipe]])

        return self._process(work)

    def _process(self, work: Callable[[], int]) -> Done:
        """Does it in a fork, whose warnings and errors are lines."""
        out, log = self.folder / "out", self.folder / "log"
        if not (pid := os.fork()):
            status = 70
            try:
                for number, path in ((1, out), (2, log)):
                    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
                status = work()
                sys.stdout.flush()
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        errors = [line for line in log.read_text().splitlines() if line.startswith(("error:", "warning:", "Trace"))]
        return Done(status, errors, {"": out.read_bytes()})

    def flip(self, file: Path, draw: random.Random) -> str:
        """What becomes of a run of which one bit of this file is another."""
        self.put_back()
        path = self.run_dir / file
        content = bytearray(path.read_bytes())
        most = min(HEAD, len(content)) if draw.random() < 0.3 else len(content)
        place, bit = draw.randrange(most), draw.randrange(8)
        content[place] ^= 1 << bit
        path.write_bytes(content)
        found = [
            self._judge(path, done, whole)
            for done, whole in zip([self.use(), self.train(END)], self.whole, strict=True)
        ]
        for end in ("silent", "traceback", "unnamed"):
            if end in found:
                print(f"bits: {self.recipe}, {file}, byte {place} of {len(content)}, bit {bit}: {end}", flush=True)
                return end
        return "noticed" if "noticed" in found else "without effect"

    def _judge(self, path: Path, done: Done, whole: Done) -> str:
        if done.status not in (0, 1) or any(line.startswith("Trace") for line in done.errors):
            return "traceback"
        new = [line for line in done.errors if line not in whole.errors]
        if done.status and not (new and path.name in " ".join(new)):
            return "unnamed"
        named = any(path.name in line for line in new)
        if not done.status and done.outputs != whole.outputs and not (named and done.outputs == self.before):
            return "silent"
        return "noticed" if named else "without effect"


def run(n: int, seed: int) -> Iterator[Count]:
    """n bits, shared by both recipes and by all files of a run; the same ones for the same seed."""
    for number, recipe in enumerate(MAINS):
        draw = random.Random(f"{seed} {recipe}")
        with TemporaryDirectory() as folder:
            subject = Subject(recipe, Path(folder))
            ends = dict.fromkeys(("silent", "traceback", "unnamed", "noticed", "without effect"), 0)
            tried, order = n * (number + 1) // len(MAINS) - n * number // len(MAINS), list[Path]()
            for _ in range(tried):
                order = order or draw.sample(subject.files, len(subject.files))
                ends[subject.flip(order.pop(), draw)] += 1
            bad, good = ({end: ends[end] for end in part} for part in (list(ends)[:3], list(ends)[3:]))
            yield Count(f"{recipe}, {len(subject.files)} files", tried, bad, good)


torch.set_num_threads(1)  # forks must not inherit a pool of threads
MAINS: dict[str, Callable[[list[str]], None]] = {recipe: main_of(recipe) for recipe in ("translation", "gpt")}
