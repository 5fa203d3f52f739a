"""How many threads compute on a machine that other programs use too.

Threads that share an operation wait for each other thousands of times a second, and spin while they wait. If another
program has the core of one of them, all wait for it. Two trainings of two threads each on two cores are seventy
times slower than one alone, and not twice. So there are as many threads as available cores: those that this process
has now, and those that are idle. Two such programs come to share the cores without knowing of each other.

Sums of floating-point numbers depend slightly on how many threads share them. `OMP_NUM_THREADS` fixes the number, and
with it the last bit of the results.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm

WINDOW = 0.5  # seconds between two looks
FIRST = 0.1  # seconds that the first one takes at least
PATIENCE, LONGEST_PATIENCE = 2.0, 60.0  # seconds for which cores must be free; doubled each time they were not for long


@dataclass(frozen=True)
class Reading:
    """Seconds: of the clock, of the cores that this process had, and of those that it may use because they were
    free."""

    clock: float
    own: float
    idle: float


def read() -> Reading | None:
    """The counters at present; None if the system has none (it is not Linux)."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            lines = file.read().splitlines()
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        # Idle and waiting for a disk; and busy with processes of low priority (nice), unless this process is one of
        # them.
        counted = [4, 5] if os.getpriority(os.PRIO_PROCESS, 0) > 0 else [2, 4, 5]
        ticks = [int(words[i]) for line in lines if (words := line.split()) and words[0] in cores for i in counted]
        return Reading(time.monotonic(), time.process_time(), sum(ticks) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, AttributeError):
        return None


class Threads:
    """Chooses the number between 1 and `most` at each reading; the first reading is compared with `before`."""

    def __init__(self, most: int, before: Reading) -> None:
        self.most, self.number, self.before = most, most, before
        self.patience, self.raised = PATIENCE, float("-inf")  # the clock when there were more the last time
        self.free_since: float | None = None

    def choose(self, now: Reading) -> int:
        """The number of threads from now on: fewer immediately, more if cores stay free for a while."""
        before, self.before = self.before, now
        available = (now.own - before.own + now.idle - before.idle) / (now.clock - before.clock)  # in cores
        fewer, more = max(1, int(available + 0.35)), min(self.most, int(available + 0.2))
        if available < min(self.number - 0.35, 0.9 * self.number) and fewer < self.number:
            if now.clock - self.raised < LONGEST_PATIENCE:  # they were not free for long
                self.patience = min(2 * self.patience, LONGEST_PATIENCE)
            elif self.raised > float("-inf"):
                self.patience = PATIENCE
            self.number, self.raised, self.free_since = fewer, float("-inf"), None
        elif available < 1.1 * self.number or more <= self.number:
            self.free_since = None
        elif self.free_since is None:
            self.free_since = before.clock
        if self.free_since is not None and now.clock - self.free_since >= self.patience:
            self.number, self.raised, self.free_since = more, now.clock, None
        return self.number


class Adapter(threading.local):
    """A function to call between two pieces of work, in each thread that computes; torch has a number for each."""

    def __init__(self, take: Callable[[], Reading | None], start: Reading | None) -> None:
        self.take, self.start, self.next_look = take, start, 0.0
        self.threads: Threads | None = None

    def __call__(self) -> None:
        if self.start is None or time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + WINDOW
        number = torch.get_num_threads()
        if self.threads is None or number != self.threads.number:  # somebody else has set it
            if number == 1:
                return
            self.threads = Threads(number, self.start if self.threads is None else self.threads.before)
            time.sleep(max(0.0, self.start.clock + FIRST - time.monotonic()))
        if (now := self.take()) is not None and (chosen := self.threads.choose(now)) != number:
            torch.set_num_threads(chosen)
            why = "other programs need the cores" if chosen < number else "cores are free again"
            tqdm.write(f"{chosen} thread{'s' * (chosen > 1)} instead of {number}: {why}", file=sys.stderr)


adapt = Adapter(read, None if "OMP_NUM_THREADS" in os.environ else read())
"""Set the number of threads to what the machine has to give now. Call it between two pieces of work. It looks twice a
second and prints a line when the number changes. It does nothing if `OMP_NUM_THREADS` fixes the number or there is one
core."""
