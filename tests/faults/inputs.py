"""Wrong inputs, each in a process of its own: is it one line that names it, the right status, and nothing lost?

Torch is imported once; every input is tried in a fork of this process, in a copy of one small workplace, with a limit
of time and of memory. `python -m tests.faults.inputs N TABLE` tries those of one table.
"""

import contextlib
import hashlib
import os
import random
import re
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .counts import Count, table

WHOLE, SHORT = 10_000, 25  # there are fewer
SECONDS = 30.0
ROOM = 6 << 30  # bytes of addresses beside what importing torch took
LONGEST = 1000  # characters of a line that somebody is to read
NOBODY = 65534
# How the parser's own types look like, which mean nothing to who wrote a recipe.
PARSERS = re.compile(r"Union\[|Optional\[|Literal\[|<class|NoneType|Parser key|typing\.|Namespace\(|\bdtype=object")
NOTICE = re.compile(r"warning: |\d+ threads? instead of \d+: ")  # what may stand before the error
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Case:
    """One wrong input.

    Args:
        table: Which kind of input.
        name: What is wrong.
        program: "transformer-zoo", or the path of a script of this repository.
        arguments: Its command line, in the workplace.
        damage: What is done to the workplace first.
        status: What the program must end with.
        names: What the line must name.
        powerless: The program may write only where everybody may.
    """

    table: str
    name: str
    program: str
    arguments: tuple[str, ...]
    damage: Callable[[Path], object] | None = None
    status: int = 1
    names: str = ""
    powerless: bool = False


class Ended(NamedTuple):
    """How a program ended; status None: it was stopped after `SECONDS`."""

    status: int | None
    out: str
    err: str
    seconds: float


def run_case(case: Case, workplace: Path, run: Callable[..., int]) -> list[str]:
    """What is wrong with the way a case is refused; nothing if all is well."""
    with tempfile.TemporaryDirectory(dir=workplace.parent) as folder:
        place = Path(folder) / "w"
        shutil.copytree(workplace, place, symlinks=True)
        os.chmod(folder, 0o755)
        if case.damage is not None:
            case.damage(place)
        before = snapshot(place)
        ended = in_a_fork(lambda: run(case.program, *case.arguments), place, powerless=case.powerless)
        return [*judge(case, ended), *losses(case, before, snapshot(place))]


def in_a_fork(work: Callable[[], int], place: Path, *, powerless: bool = False, seconds: float = SECONDS) -> Ended:
    """What `work` wrote and returned, as a process of its own in the folder `place`."""
    said, errors = (place.parent / f"{place.name}.{kind}" for kind in ("stdout", "stderr"))
    start = time.monotonic()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            for path, descriptor in ((os.devnull, 0), (said, 1), (errors, 2)):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), descriptor)
            os.chdir(place)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if powerless and os.geteuid() == 0:
                os.seteuid(NOBODY)
            status = work()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    ended: int | None = None
    while ended is None and time.monotonic() - start < seconds:
        found, code = os.waitpid(child, os.WNOHANG)
        ended = os.waitstatus_to_exitcode(code) if found else None
        time.sleep(0.005)
    took = time.monotonic() - start
    with contextlib.suppress(ProcessLookupError):  # it, if it goes on, and what it started
        os.killpg(child, signal.SIGKILL)
    if ended is None:
        os.waitpid(child, 0)
    return Ended(ended, *(path.read_text("utf-8", "replace") for path in (said, errors)), took)


def judge(case: Case, ended: Ended) -> list[str]:
    """What is wrong with the status and with what was said."""
    if ended.status is None:
        return [f"went on for more than {SECONDS:.0f} s: {ended.err[-300:]}"]
    wrong = []
    if ended.status != case.status:
        wrong.append(f"status {ended.status}, not {case.status}")
    if "Traceback (most recent call last)" in ended.err:
        return [*wrong, "a traceback: " + " | ".join(ended.err.strip().splitlines()[-3:])]
    lines = [line for line in ended.err.splitlines() if not NOTICE.match(line)]
    if len(lines) != 1 or not lines[0].startswith("error: "):
        wrong.append(f"not one line: {ended.err[:600]!r}")
    line = lines[-1] if lines else ""
    if case.names not in line:
        wrong.append(f"{case.names!r} is not named: {line[:300]}")
    if found := PARSERS.search(line):
        wrong.append(f"the parser's words ({found[0]}): {line[:300]}")
    if found := CONTROL.search(ended.err):
        wrong.append(f"a control character as it is, {found[0]!r}: {line[:100]!r}")
    if len(line) > LONGEST:
        wrong.append(f"a line of {len(line)} characters: {line[:200]} ...")
    return wrong


def snapshot(place: Path) -> dict[str, str]:
    """Each file below a folder with its kind and content."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind == stat.S_IFREG:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            found[name] = os.readlink(path) if kind == stat.S_IFLNK else str(kind)
    return found


def losses(case: Case, before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Which files are gone, changed, or new where nothing new belongs.

    A trainer may have begun its run's folder, and have written there what it was asked for.
    """
    trains = case.program.endswith("train.py")
    asked = re.compile(r"runs/\w+/config\.yaml" if trains else r"(?!)")
    changed = [name for name in before if after.get(name) != before[name] and not asked.fullmatch(name)]
    gone = [f"{name} was {'changed' if name in after else 'removed'}" for name in changed]
    new = [name for name in after if name not in before]
    return gone + [f"{name} was left over" for name in new if not (trains and f"{name}/".startswith("runs/"))]


def run_cases(cases: Iterable[Case], workplace: Path, run: Callable[..., int]) -> list[Count]:
    """Tries all of them and prints what is wrong; the counts by table."""
    tried: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for case in cases:
        tried[case.table] += 1
        if wrong := run_case(case, workplace, run):
            failed[case.table] += 1
            command = " ".join([case.program, *map(repr, case.arguments)])[:300]
            print("\n    ".join([f"{case.table}: {case.name}: {command}", *wrong]), flush=True)
    return [Count(table, count, {"not refused well": failed[table]}) for table, count in tried.items()]


def run(n: int, seed: int, only: str | None = None) -> list[Count]:
    """Makes the workplace and tries n of the cases, or those of one table."""
    from . import programs, tables
    from .workplace import make_workplace

    programs.load()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.chmod(folder, 0o755)
        place = Path(folder) / "workplace"
        # In a fork: a process that trained has threads, which its forks would wait for.
        made = in_a_fork(lambda: make_workplace(place, programs.run), Path(folder), seconds=300)
        if made.status:
            raise RuntimeError(f"there is no workplace: {made.out}{made.err}")
        cases = [case for case in tables.all_cases(place) if only in (None, case.table)]
        chosen = sorted(random.Random(seed).sample(range(len(cases)), min(n, len(cases))))
        return run_cases([cases[i] for i in chosen], place, programs.run)


if __name__ == "__main__":
    print(table([("inputs", count) for count in run(int(sys.argv[1]), 1, " ".join(sys.argv[2:]) or None)]))
