"""The results of gpu.py: figures and their aims, as a JSON file and a Markdown page, written again with each figure."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from transformer_zoo.files import write_json, write_text


@dataclass(frozen=True)
class Figure:
    """A measurement, or the reason why there is none.

    Args:
        name: Name of the figure.
        value: None if it could not be measured; `note` then says why.
        unit: Unit of the value and of the aim.
        aim: The value that is asked for.
        at_most: The aim is a bound from above.
        note: A remark for the reader, in one line.
        table: Lines that belong to it, such as the kernels of a profile: name and milliseconds.
    """

    name: str
    value: float | None = None
    unit: str = ""
    aim: float | None = None
    at_most: bool = False
    note: str = ""
    table: list[tuple[str, float]] = field(default_factory=list)

    @property
    def reached(self) -> str:
        """`yes`, `no`, or nothing if there is no aim or no value."""
        if self.aim is None or self.value is None:
            return ""
        return "yes" if (self.value <= self.aim if self.at_most else self.value >= self.aim) else "no"


AIMS: dict[str, list[Figure]] = {
    **{
        f"GPT-2 124M, {n} windows": [Figure("of the bfloat16 peak", unit="%", aim=55)] for n in (16, 32, 64)
    },
    "gpt2-xl's shape": [Figure("of the bfloat16 peak", unit="%", aim=50)],
    "llama-3.2-1b's shape": [Figure("of the bfloat16 peak", unit="%", aim=50)],
    "decoding llama-3.2-1b, batch 1": [
        Figure("of what the memory's speed allows", unit="%", aim=70),
        Figure("ours / Hugging Face", aim=1.5),
    ],
    "Multi30k": [
        Figure("BLEU", aim=41.0),
        Figure("training", unit="min", aim=4, at_most=True),
    ],
}  # fmt: skip
"""By row: what one H200 must reach. If a row ends before it has measured one of these, its reason stands instead.
"""
AIMS["GPT-2 124M, 32 windows"].append(Figure("ours / nanoGPT", aim=1.2))


def with_aim(row: str, figure: Figure) -> Figure:
    """The figure with its aim, unless its row gives one itself."""
    for asked in AIMS.get(row, ()):
        if asked.name == figure.name and figure.aim is None:
            return replace(figure, unit=figure.unit or asked.unit, aim=asked.aim, at_most=asked.at_most)
    return figure


def unmet(row: str, found: Iterable[str], reason: str) -> list[Figure]:
    """The figures that a row without a result owes: its aims that were not measured, or at least the row itself."""
    names = set(found)
    owed = [replace(asked, note=reason) for asked in AIMS.get(row, ()) if asked.name not in names]
    return owed or [Figure("the rest" if names else "all of it", note=reason)]


class Report:
    """The figures of all parts, as files in a folder. A part that runs again replaces its old figures.

    Args:
        folder: Where gpu.json and gpu.md are; it is made.
        title: Title of the page.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self.folder, self.title = folder, title
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "gpu.json"
        self.parts: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))["parts"] if path.exists() else {}

    def begin(self, part: int, about: Mapping[str, str]) -> None:
        """A part starts; its earlier results are forgotten. `about`: its command, and what it runs on."""
        self.parts[str(part)] = {**about, "figures": []}
        self.write()

    def add(self, part: int, row: str, figure: Figure, seconds: float) -> None:
        """Add a figure, `seconds` after its part began, and what else it depends on."""
        of = self.parts[str(part)]
        about = {name: value for name, value in of.items() if name != "figures"}
        found = {**asdict(figure), "reached": figure.reached, "after_seconds": round(seconds, 1)}
        if figure.value is not None and not math.isfinite(figure.value):
            found |= {"value": None, "note": f"came out as {figure.value}; {figure.note}"}
        of["figures"].append({"row": row, **found, **about})
        self.write()

    def write(self) -> None:
        """Write both files, each completely or not at all."""
        write_json(self.folder / "gpu.json", {"title": self.title, "parts": self.parts})
        write_text(self.folder / "gpu.md", self.markdown())

    def markdown(self) -> str:
        """The page."""
        lines = [f"# {self.title}", ""]
        for number, part in sorted(self.parts.items()):
            about = [f"{name} {value}" for name, value in part.items() if name not in ("command", "figures")]
            lines += [f"## Part {number}", "", f"`{part['command']}`; {'; '.join(about)}", ""]
            lines += ["| row | figure | measured | aim | reached | |", "|---|---|--:|--:|---|---|"]
            lines += [_line(figure) for figure in part["figures"]]
            for figure in part["figures"]:
                lines += _table(figure)
            lines.append("")
        return "\n".join(lines)


def _line(figure: Mapping[str, Any]) -> str:
    value, unit, aim = figure["value"], figure["unit"], figure["aim"]
    shown = "-" if value is None else f"{number(value)} {unit}".strip()
    wanted = "" if aim is None else f"{'at most ' if figure['at_most'] else ''}{number(aim)} {unit}".strip()
    cells = [figure["row"], figure["name"], shown, wanted, figure["reached"], figure["note"]]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _table(figure: Mapping[str, Any]) -> list[str]:
    if not figure["table"]:
        return []
    lines = ["", f"### {figure['row']}: {figure['name']}", "", "| | ms | share |", "|---|--:|--:|"]
    whole = figure["value"] or sum(time for _, time in figure["table"])
    return lines + [
        f"| `{name.replace('|', '/')}` | {time:.3f} | {time / whole:.1%} |" for name, time in figure["table"]
    ]


def number(value: float) -> str:
    """A figure as it is read: four digits, and all before the point."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:.4g}"
