"""Whether a change made anything slower: this commit compared with an older one, in alternation, on one machine.

    python recipes/benchmarks/guard.py --old COMMIT [--rows "beam float32" ...] [--json FILE]

Both sides run in processes of their own, on the same inputs, one at a time, alternately. In a round each has ten turns,
and its seconds are those of its fastest turn, which other programs disturbed least. A round's ratio is the old side's
seconds / the new one's: above 1 means faster now. The median ratio must be at least 0.97. If the quartiles are more
than 3 % apart, the machine is too restless to judge. The row is then measured again, and if that does not help, it is
not judged. On two idle cores it takes about a quarter of an hour.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import torch
from jsonargparse import ArgumentParser
from tqdm import tqdm

if not __package__:  # instead of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from recipes.benchmarks.options import parsed
from recipes.benchmarks.speed import machine
from transformer_zoo.errors import UserError, run_program
from transformer_zoo.files import write_json

BAR, STEADY = 0.97, 0.03
TURNS = 10  # of each side in a round
ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("guard_worker.py")
ROWS = [
    f"{row} {precision}"
    for row in ("translation step", "GPT step", "greedy", "beam")
    for precision in ("float32", "bfloat16")
]


@dataclass(frozen=True)
class Measured:
    """A row: its ratios by round, and how often it was measured until they lay close together."""

    row: str
    ratios: list[float]
    attempts: int

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """The lower one, the median, the upper one."""
        lower, median, upper = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return lower, median, upper

    @property
    def verdict(self) -> str:
        """`ok`, `slower` or `not judged`."""
        lower, median, upper = self.quartiles
        if upper - lower > STEADY * median:
            return "not judged"
        return "ok" if median >= BAR else "slower"

    def __str__(self) -> str:
        lower, median, upper = self.quartiles
        spread = f"{min(self.ratios):.3f} | {lower:.3f} | {median:.3f} | {upper:.3f} | {max(self.ratios):.3f}"
        return f"| {self.row} | {spread} | {self.attempts} | {self.verdict} |"


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The tree of a commit, for as long as it is needed.

    Raises:
        UserError: git knows no such commit.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "old"
        command = ["git", "-C", str(ROOT), "worktree", "add", "--detach", str(path), commit]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"--old {commit}: {done.stderr.strip().splitlines()[-1]}")
        try:
            yield path
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(path)], check=True)


@contextmanager
def side(tree: Path, threads: int) -> Iterator[Callable[[str], float]]:
    """A process that does rows with the package of `tree`; the function gives the seconds of one."""
    command = [sys.executable, "-W", "ignore", str(WORKER), str(threads)]
    fixed = {"OMP_NUM_THREADS": str(threads)}  # the code is compared, not how it gives way to other programs
    environment = os.environ | fixed | {"PYTHONPATH": str(tree)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        asked, answers = (stream for stream in (process.stdin, process.stdout) if stream is not None)

        def seconds(row: str) -> float:
            return _ask(row, asked, answers, tree)

        yield seconds
        asked.close()


def _ask(row: str, asked: IO[str], answers: IO[str], tree: Path) -> float:
    asked.write(row + "\n")
    asked.flush()
    answer = answers.readline()
    if not answer:
        raise UserError(f"{row}: the package of {tree} cannot do it; what it said stands above")
    return float(json.loads(answer)["seconds"])


def measure(row: str, sides: Sequence[Callable[[str], float]], rounds: int, attempts: int) -> Measured:
    """Old and new in alternation, again until the quartiles of the ratios lie close together."""
    for attempt in range(1, attempts + 1):
        ratios = []
        for number in range(-1, rounds):  # the first builds the models and warms up
            times: list[list[float]] = [[], []]
            for turn in range(TURNS if number >= 0 else 1):
                for which in (0, 1) if (number + turn) % 2 else (1, 0):
                    times[which].append(sides[which](row))
            if number >= 0:
                ratios.append(min(times[0]) / min(times[1]))
        measured = Measured(row, ratios, attempt)
        if measured.verdict != "not judged":
            break
    return measured


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and fail if something is slower."""
    parser = ArgumentParser(description="Speed of this commit beside an older one.")
    add: Callable[..., Any] = parser.add_argument
    add("--old", required=True, help="commit to compare with")
    add("--rows", nargs="+", choices=ROWS, default=ROWS, help="what to measure")
    add("--rounds", type=int, default=9, help="alternations")
    add("--attempts", type=int, default=3, help="measure a restless row so often at most")
    add("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of each side")
    add("--json", default=None, type=str | None, help="also write the results to this file")
    options = parsed(parser, arguments, rounds=2)
    described = machine(torch.device("cpu")) | {"threads": str(options.threads), "old": options.old}
    print("\n".join(f"{name}: {value}" for name, value in described.items()))
    print(
        f"\n| old / new seconds, {options.rounds} rounds | least | quartile | median | quartile | most | measured | |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|---|", flush=True)
    rows = []
    with ExitStack() as stack:
        old = stack.enter_context(checkout(options.old))
        sides = [stack.enter_context(side(tree, options.threads)) for tree in (old, ROOT)]
        for row in tqdm(options.rows, desc="rows", disable=None, leave=False):
            rows.append(measure(row, sides, options.rounds, options.attempts))
            print(rows[-1], flush=True)
    if options.json is not None:
        measured = [asdict(row) | {"verdict": row.verdict, "quartiles": row.quartiles} for row in rows]
        write_json(Path(options.json), {"machine": described, "rows": measured})
    if slower := [row.row for row in rows if row.verdict == "slower"]:
        raise UserError(f"slower than {options.old}: {', '.join(slower)}")


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
