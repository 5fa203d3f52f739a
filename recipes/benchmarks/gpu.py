"""Everything that waits for a GPU, measured in a few minutes on a bare machine, with the aims beside the figures.

    python3 recipes/benchmarks/gpu.py [--part N] [--out FOLDER] [--commit NAME] [--files FOLDER] [--rehearse]

docs/gpu_measure.md says what each part does and what can lie beside the script. A part takes at most four minutes,
whatever fails in it. Without `--part`, parts 1 and 2 run on a GPU, and all three in a rehearsal. gpu.json and gpu.md
are written again after each figure, and keep the results of earlier parts. Exit status: 0; 1 if a row failed; 2 without
a GPU.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # on a bare machine the package is installed nowhere

from recipes.benchmarks.gpu_report import Figure, Report, number, unmet, with_aim
from recipes.benchmarks.gpu_rows import PART_SECONDS, PATIENCE, ROWS, START, TITLES, Row
from recipes.benchmarks.gpu_wheels import FILES, ROOT, unpack
from transformer_zoo.errors import UsageError, UserError, run_program

LEAST = 2.0  # seconds with which a row is begun


class Late(Exception):
    """A row has used its time, or has none."""


class Worker:
    """A process that runs rows; everything that it starts ends with it.

    Args:
        files: What lies beside the script.
        packages: A folder to import from first.
        rehearse: On the CPU.
        log: File to which its output is appended.
    """

    def __init__(self, files: Path, packages: Path, rehearse: bool, log: Path) -> None:
        command = [sys.executable, "-m", "recipes.benchmarks.gpu_worker", str(files)]
        paths = [str(packages), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        fixed = {"PYTHONPATH": os.pathsep.join(paths), "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "HF_HUB_OFFLINE": "1"}
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command + ["--rehearse"] * rehearse, cwd=ROOT, env=os.environ | fixed, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
            )  # fmt: skip
        self.read = b""

    def answer(self, deadline: float) -> dict[str, Any]:
        """Its next line.

        Raises:
            Late: no line came in time.
            EOFError: there will be none.
        """
        assert self.process.stdout is not None
        while b"\n" not in self.read:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Late("not ended")
            if not (more := os.read(self.process.stdout.fileno(), 1 << 16)):
                raise EOFError
            self.read += more
        line, _, self.read = self.read.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, row: Row, deadline: float) -> Iterator[dict[str, Any]]:
        """Its answers to a row; the last one says how the row ended."""
        assert self.process.stdin is not None
        request = json.dumps([ROWS.index(row), deadline - time.monotonic()])
        self.process.stdin.write(request.encode() + b"\n")
        self.process.stdin.flush()
        while True:
            answer = self.answer(deadline)
            yield answer
            if "end" in answer:
                return

    def end(self) -> str:
        """Kill it if it still runs; returns in words how it ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was still to be written
                    stream.close()
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


class Part:
    """One part as it runs.

    Args:
        number: Number of the part.
        report: Receives its figures.
        start: Starts a process that appends to a log.
        about: What its page says instead of what the process says.
    """

    def __init__(self, number: int, report: Report, start: Callable[[Path], Worker], about: dict[str, str]) -> None:
        self.number, self.report, self.start, self.about = number, report, start, about
        self.log = report.folder / f"part{number}.log"
        self.log.unlink(missing_ok=True)
        self.worker: Worker | None = None
        self.begun, self.is_open, self.failed = time.monotonic(), False, 0

    def run(self) -> int:
        """Run all rows; returns how many of them failed."""
        print(f"\npart {self.number}: {TITLES[self.number]}", flush=True)
        try:
            for row in ROWS:
                if row.part == self.number:
                    self._row(row, self._deadline(row))
        finally:
            if self.worker is not None:
                self.worker.end()
        return self.failed

    def _deadline(self, row: Row) -> float:
        """The latest time at which a row that begins now is stopped."""
        patience = PATIENCE * row.seconds + (START if self.worker is None else 0)
        return min(time.monotonic() + patience, self.begun + PART_SECONDS)

    def _row(self, row: Row, deadline: float) -> None:
        found: list[str] = []
        reason, failed = "", False
        try:
            if deadline - time.monotonic() < LEAST:
                raise Late("not begun")
            for answer in self._started(deadline).ask(row, deadline):
                if "figure" in answer:
                    figure = with_aim(row.name, Figure(**answer["figure"]))
                    found.append(figure.name)
                    self._add(row, figure)
                else:
                    reason, failed = answer["end"], answer["failed"]
        except Late as late:
            reason, failed = f"{late} by second {deadline - self.begun:.0f} of the part, when its time was over", True
        except (EOFError, BrokenPipeError):
            ended = "nothing" if self.worker is None else self.worker.end()
            reason, failed = f"its process ended with {ended}; {self.log.name} says more", True
        if failed:
            self.failed += 1
            if self.worker is not None:
                self.worker.end()
            self.worker = None
        if reason:
            for figure in unmet(row.name, found, reason):
                self._add(row, figure)

    def _started(self, deadline: float) -> Worker:
        """The process, a new one if there is none. The first one says what the part runs on."""
        if self.worker is None:
            self.worker = self.start(self.log)
            first = self.worker.answer(deadline)
            if "refused" in first:
                raise UsageError(first["refused"])
            if not self.is_open:
                self._open(first["about"])
        return self.worker

    def _open(self, about: dict[str, str]) -> None:
        self.is_open = True
        self.report.begin(self.number, about | self.about)

    def _add(self, row: Row, figure: Figure) -> None:
        if not self.is_open:  # not even the first process came up
            self._open({"device": "unknown", "versions": "unknown", "commit": "unknown"})
        self.report.add(self.number, row.name, figure, time.monotonic() - self.begun)
        shown = "-" if figure.value is None else f"{number(figure.value)} {figure.unit}".strip()
        bound = "at most " if figure.at_most else ""
        aim = "" if figure.aim is None else f" (aim: {bound}{number(figure.aim)}; reached: {figure.reached or '-'})"
        note = f"  {figure.note}" if figure.note else ""
        print(f"  {row.name}: {figure.name}: {shown}{aim}{note}", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Run the parts, one after the other.

    Raises:
        UsageError: there is no GPU.
        UserError: rows failed.
    """
    options = parse_options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # everything that was started must end too
    parts = [options.part] if options.part else [1, 2, 3] if options.rehearse else [1, 2]
    out = options.out or ROOT / "runs" / ("gpu_rehearsal" if options.rehearse else "gpu")
    title = "A rehearsal on the CPU: sizes are tiny, no figure means anything" if options.rehearse else "On a GPU"
    report, failed = Report(out, title), 0
    with TemporaryDirectory() as place:
        packages = Path(place)
        files = options.files.resolve()
        unpack(files, packages)
        start = partial(Worker, files, packages, options.rehearse)
        for part in parts:
            command = f"python3 recipes/benchmarks/gpu.py --part {part}{' --rehearse' * options.rehearse}"
            about = {"command": command, **({} if options.commit is None else {"commit": options.commit})}
            failed += Part(part, report, start, about).run()
    print(f"\n{out / 'gpu.md'} and gpu.json have all of it, the logs beside them what was printed")
    if failed:
        raise UserError(f"{failed} rows failed; their reasons stand in {out / 'gpu.md'}")


def parse_options(arguments: Sequence[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", type=int, choices=sorted(TITLES), help="only this part; by default 1 and 2")
    parser.add_argument("--out", type=Path, help="folder for gpu.json and gpu.md; by default runs/gpu")
    parser.add_argument("--commit", help="of the tree, for the page; by default what git says")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU with tiny sizes; by default all parts")
    parser.add_argument("--files", type=Path, default=FILES, help="what lies beside it, see docs/gpu_measure.md")
    return parser.parse_args(list(arguments))


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
