"""Does to runs what machines and people do to them, and counts what is lost, silently wrong, or no error for people.

    python -m tests.faults [kills] [bits] [inputs] [busy] [--n N] [--seed S]

A kind of fault is a module beside this one. It has WHOLE, how many faults are tried here, and SHORT, how many in the
fast suite (0: none). Its `run(n, seed)` prints a line for each bad end and gives the counts. The exit status is 1 if
any count of something bad is not 0.
"""

import argparse
import importlib
import sys
import time
from typing import Any

from .counts import table

KINDS = ("kills", "bits", "inputs", "busy")


def module_of(kind: str) -> Any:
    """The module of a kind of fault."""
    return importlib.import_module(f"{__package__}.{kind}")


def main(arguments: list[str]) -> int:
    """Tries each kind, prints the counts, and gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Faults done on purpose, and counted.")
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; all where none is named")
    parser.add_argument("--n", type=int, help="how many of each kind; by default as many as are documented")
    parser.add_argument("--seed", type=int, default=1, help="draws other moments, places and inputs")
    options = parser.parse_args(arguments)
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"{', '.join(sorted(unknown))}: no such kind; there are {', '.join(KINDS)}")
    counts = []
    for kind in options.kinds or KINDS:
        module, started = module_of(kind), time.monotonic()
        found = module.run(module.WHOLE if options.n is None else options.n, options.seed)
        counts += [(kind, count) for count in found]
        print(f"{kind}: {time.monotonic() - started:.0f} s", flush=True)
    print(table(counts))
    return int(any(number for _, count in counts for number in count.bad.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
