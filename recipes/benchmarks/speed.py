"""Speed compared with other implementations: all in one process, in alternation, each figure a median over rounds."""

import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from transformer_zoo.files import write_json
from transformer_zoo.threads import adapt

OURS = "transformer_zoo"


@dataclass
class Contestant:
    """`run(n)` does the work of round n, or warms up if n is -1; it returns the number of units it did."""

    name: str
    precision: str
    run: Callable[[int], float]


@dataclass
class Row:
    """A line of a table: units a second, median and extremes over the rounds; ours / peer."""

    name: str
    precision: str
    speed: float
    lowest: float
    highest: float
    ratio: float


@dataclass
class Table:
    """A table with remarks for its reader."""

    title: str
    unit: str
    notes: list[str]
    rows: list[Row]

    def __str__(self) -> str:
        lines = [f"### {self.title}", "", *(f"- {note}" for note in self.notes), ""]
        lines += [
            f"| implementation | precision | {self.unit} | lowest | highest | ours / this |",
            "|---|---|--:|--:|--:|--:|",
        ]
        for row in self.rows:
            speeds = " | ".join(f"{x:,.0f}" if x >= 1000 else f"{x:.1f}" for x in (row.speed, row.lowest, row.highest))
            lines.append(f"| {row.name} | {row.precision} | {speeds} | {row.ratio:.2f} |")
        return "\n".join(lines)


def machine(device: torch.device) -> dict[str, str]:
    """What the figures depend on."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    sets = [name for name in ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16") if capabilities.get(name)]
    described = {
        "cpu": _cpu_name(),
        "instruction sets": ", ".join(sets) or platform.machine(),
        "threads": str(torch.get_num_threads()),
        "packages": ", ".join(_versions("torch", "transformers", "ctranslate2")),
        "commit": _commit(),
    }
    if not {"avx512_bf16", "amx_bf16"} & set(sets):
        described["bfloat16 on this CPU"] = "emulated, slower than float32"
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


def _versions(*packages: str) -> list[str]:
    installed = {name for names in metadata.packages_distributions().values() for name in names}
    return [f"{name} {metadata.version(name)}" for name in packages if name in installed]


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def report(described: Mapping[str, str], tables: Iterable[Table], options: Mapping[str, Any], path: str | None) -> None:
    """Print the machine and each table as soon as it is measured; at the end write all to `path`, if one is given."""
    print("\n".join(f"{name}: {value}" for name, value in described.items()))
    measured = []
    for table in tables:
        measured.append(asdict(table))
        print(f"\n{table}", flush=True)
    if path is not None:
        given = {name: str(value) if isinstance(value, torch.device) else value for name, value in options.items()}
        write_json(Path(path), {"machine": dict(described), "options": given, "tables": measured})


def compete(contestants: Sequence[Contestant], rounds: int, title: str, device: torch.device) -> list[Row]:
    """Warm up, then let all alternate; each round begins with another one.

    A ratio is to ours at the same precision, or to our fastest if we have no such precision.
    """
    speeds: list[list[float]] = [[] for _ in contestants]
    with tqdm(total=len(contestants) * (rounds + 1), desc=title, disable=None, leave=False) as bar:
        for number in range(-1, rounds):
            for i in np.roll(np.arange(len(contestants)), -number).tolist():
                bar.set_postfix_str(f"{contestants[i].name} {contestants[i].precision}")
                adapt()  # for all: else only ours would, and theirs be measured at what it found
                start = time.perf_counter()
                amount = contestants[i].run(number)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if number >= 0:
                    speeds[i].append(amount / (time.perf_counter() - start))
                bar.update()
    return compare([(c.name, c.precision) for c in contestants], speeds)


def compare(names: Sequence[tuple[str, str]], speeds: Sequence[Sequence[float]]) -> list[Row]:
    """A row for each (name, precision) and its speeds, one a round; ratios as in `compete`."""
    ours = {precision: mine for (name, precision), mine in zip(names, speeds, strict=True) if name == OURS}
    fastest = max(ours.values(), key=statistics.median)
    rows = []
    for (name, precision), mine in zip(names, speeds, strict=True):
        ratio = statistics.median(a / b for a, b in zip(ours.get(precision, fastest), mine, strict=True))
        rows.append(Row(name, precision, statistics.median(mine), min(mine), max(mine), ratio))
    return rows
