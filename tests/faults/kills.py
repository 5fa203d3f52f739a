"""SIGKILL at random moments; started again, a run must end as the one that was never killed, bit for bit.

Torch is imported once, and each process of a run is a fork of this one, which makes hundreds of deaths cheap. Half of
the moments are drawn from the time that a whole run takes, half from the operations on files that it does: those die
just before one. Half of these are renames, and what was to be renamed may be torn, as by a kill while it is written.
"""

import json
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch._dynamo  # slow to import, and here imported once
import torch.distributed.fsdp
import torch.distributed.tensor.parallel
import torch.utils.tensorboard

from transformer_zoo.training import distributed
from transformer_zoo.training.checkpoint import Checkpoints
from transformer_zoo.training.loop import Trainer

from .counts import Count
from .tiny import main_of, write_recipe

WHOLE, SHORT = 240, 12
LONGEST = 300.0  # seconds of a process before it counts as hung
ON_FILES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link"}
CLOCKED = {".lock", "checkpoints/last.pt", "checkpoints/previous.pt"}
CLOCK = {"seconds", "tokens_per_second", "mfu"}


@dataclass(frozen=True)
class Death:
    """When and how a process is killed: at its file operation number `operation`, or after so many seconds."""

    rank: int
    after: float = 0.0
    operation: int = 0
    kept: float = 1.0  # what is left of a file that was to be renamed

    def __str__(self) -> str:
        moment = f"at file operation {self.operation}" if self.operation else f"after {self.after:.3f} s"
        return f"process {self.rank} {moment}" + (f", {self.kept:.0%} written" if self.kept < 1 else "")


@dataclass
class Job:
    """One recipe on so many processes in `folder`, always in the same run folder, whose name is in its files.

    Each process has one of `shard` parts of the model.
    """

    recipe: str
    processes: int
    shard: int
    folder: Path

    def __post_init__(self) -> None:
        self.yaml, self.run_dir = write_recipe(self.folder, self.recipe), self.folder / "run"

    def run(self, death: Death | None = None) -> list[int]:
        """The exit status of each process, -9 where it was killed; where one was, the rest go too, a little later."""
        port, log = free_port(), (self.folder / "log").open("ab", buffering=0)
        pids = [self._fork(rank, port, log.fileno(), death) for rank in range(self.processes)]
        log.close()
        if death is not None and not death.operation:
            time.sleep(death.after)
            os.kill(pids[death.rank], signal.SIGKILL)  # a zombie where it has ended
        return wait(pids)

    def _fork(self, rank: int, port: int, log: int, death: Death | None) -> int:
        if pid := os.fork():
            return pid
        try:
            os.dup2(log, 1)
            os.dup2(log, 2)
            here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.processes, "MASTER_PORT": port}
            os.environ |= {name: str(value) for name, value in here.items()} | {"MASTER_ADDR": "127.0.0.1"}
            watch = Operations(self.run_dir, death if death is not None and death.rank == rank else None)
            sys.addaudithook(watch)
            status = distributed.run(lambda: self._train(rank))
            sys.stdout.flush()
            (self.folder / f"operations_{rank}").write_text(" ".join(map(str, (watch.count, *watch.renames))))
            os._exit(status)
        finally:
            traceback.print_exc()
            os._exit(70)

    def _train(self, rank: int) -> None:
        original = Trainer.fit

        def fit(trainer: Trainer) -> str:
            (self.folder / f"began_{rank}").write_text(str(trainer.progress.step))
            return original(trainer)

        Trainer.fit = fit  # type: ignore[method-assign]
        MAINS[self.recipe]([str(self.yaml), "--parallel.shard", str(self.shard)])


class Operations:
    """An audit hook that counts the operations on files of the run, and dies at one."""

    def __init__(self, run_dir: Path, death: Death | None) -> None:
        self.run_dir, self.death, self.count = str(run_dir), death, 0
        self.renames: list[int] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ON_FILES or not str(arguments[0]).startswith(self.run_dir):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        self.count += 1
        if event == "os.rename":
            self.renames.append(self.count)
        if self.death is not None and self.count == self.death.operation:
            if event == "os.rename" and os.path.isfile(arguments[0]):
                os.truncate(arguments[0], int(os.path.getsize(arguments[0]) * self.death.kept))
            os.kill(os.getpid(), signal.SIGKILL)


def wait(pids: list[int]) -> list[int]:
    """Exit statuses. A process that outlives another's death by a second, or `LONGEST`, is killed as an agent does."""
    statuses: dict[int, int] = {}
    ends = time.monotonic() + LONGEST
    while len(statuses) < len(pids):
        for pid in pids:
            if pid not in statuses and (found := os.waitpid(pid, os.WNOHANG))[0]:
                statuses[pid] = os.waitstatus_to_exitcode(found[1])
                if statuses[pid]:
                    ends = min(ends, time.monotonic() + 1)
        if time.monotonic() > ends:
            for pid in set(pids) - statuses.keys():
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    return [statuses[pid] for pid in pids]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def contents(run_dir: Path) -> dict[str, bytes]:
    """Every file of a run, except for what depends on the clock."""
    found = {}
    for path in run_dir.rglob("*"):
        name = str(path.relative_to(run_dir))
        if path.is_file() and not name.startswith("tensorboard/") and name not in CLOCKED:
            found[name] = path.read_bytes()
    lines = [json.loads(line) for line in found["metrics.jsonl"].splitlines()]
    kept = [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]
    return found | {"metrics.jsonl": json.dumps(kept).encode()}


class Trials:
    """Deaths of one job, each run killed up to three times and then let go on to its end."""

    def __init__(self, job: Job, draw: random.Random) -> None:
        self.job, self.draw = job, draw
        started = time.monotonic()
        assert set(job.run()) == {0}, (job.folder / "log").read_text()
        self.seconds = time.monotonic() - started
        self.operations, *self.renames = map(int, (job.folder / "operations_0").read_text().split())
        self.whole = contents(job.run_dir)
        self.kills = self.at_files = 0
        self.place = draw.random()

    def death(self) -> Death:
        """The next death. If it is at an operation, this is one of the process that writes."""
        if self.kills % 2:
            return Death(self.draw.randrange(self.job.processes), after=self.draw.uniform(0, self.seconds))
        self.place = (self.place + 0.618034) % 1  # the golden section spreads even a few evenly
        if self.kills % 4:
            return Death(0, operation=1 + int(self.place * self.operations))
        kept = self.draw.choice([1.0, self.draw.random()])
        return Death(0, operation=self.renames[int(self.place * len(self.renames))], kept=kept)

    def bad_end(self, most: int) -> tuple[str, str] | None:
        """Kills a new run up to `most` times and lets it end: "lost" or "different" and how, if it is."""
        shutil.rmtree(self.job.run_dir)
        (self.job.folder / "log").unlink()
        deaths = []
        for _ in range(most):
            death = self.death()
            if -signal.SIGKILL not in (statuses := self.job.run(death)):
                if set(statuses) != {0}:
                    return "lost", f"{deaths}: it ended with {statuses}"
                break  # it had ended before
            deaths.append(str(death))
            self.kills, self.at_files = self.kills + 1, self.at_files + bool(death.operation)
        kept = self.kept_step()
        if set(statuses := self.job.run()) != {0}:
            return "lost", f"{deaths}: started again, it ended with {statuses}"
        if kept is not None and (began := int((self.job.folder / "began_0").read_text())) < kept:
            return "lost", f"{deaths}: began at update {began}, and a checkpoint had {kept}"
        ends = contents(self.job.run_dir)
        if names := sorted(name for name in ends.keys() | self.whole.keys() if ends.get(name) != self.whole.get(name)):
            return "different", f"{deaths}: {', '.join(names)}"
        return None

    def kept_step(self) -> int | None:
        """The update that the checkpoint of an unfinished run is of."""
        if (self.job.run_dir / "results.json").exists():
            return None
        found = Checkpoints(self.job.run_dir).load()
        return None if found is None else found[0].step


def run(n: int, seed: int) -> Iterator[Count]:
    """At least n deaths, shared by both recipes on one process, on two, and on two that share a model."""
    jobs = [(recipe, *how) for recipe in MAINS for how in ((1, 1), (2, 1), (2, 2))]
    for recipe, processes, shard in jobs:
        with TemporaryDirectory() as folder:
            job = Job(recipe, processes, shard, Path(folder))
            trials = Trials(job, random.Random(f"{seed} {recipe} {processes} {shard}"))
            bad = {"lost": 0, "different": 0}
            while trials.kills < (wanted := -(-n // len(jobs))):
                if (found := trials.bad_end(min(3, wanted - trials.kills))) is not None:
                    bad[found[0]] += 1
                    print(f"kills: {recipe}, {processes} processes, shard {shard}, {found[0]}: {found[1]}", flush=True)
                    print((trials.job.folder / "log").read_text()[-2000:], file=sys.stderr)
            what = f"{recipe} on {processes} process{'es' * (processes > 1)}{', sharded' * (shard > 1)}"
            notes = {"at a file operation": trials.at_files, "operations a run": trials.operations}
            yield Count(what, trials.kills, bad, notes | {"seconds a run": round(trials.seconds, 2)})


torch.set_num_threads(1)  # forks must not inherit a pool of threads
MAINS: dict[str, Callable[[list[str]], None]] = {recipe: main_of(recipe) for recipe in ("translation", "gpt")}
