"""What gpu.py found: figures and their aims, as one JSON file and one Markdown page, written anew with each figure."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from transformer_zoo.files import write_json, write_text


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, or why it was not.

    Args:
        name: What.
        value: None where it could not be measured; `note` says why then.
        unit: Of the value and the aim.
        aim: What was asked for.
        at_most: The aim is a bound from above.
        note: What must be known to read it, in one line.
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
        """`yes`, `no`, or nothing where there is no aim or no value."""
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
"""By row: what one H200 is to reach. A row that ends before it has measured one of these gives the reason in its place.
"""
AIMS["GPT-2 124M, 32 windows"].append(Figure("ours / nanoGPT", aim=1.2))


def with_aim(row: str, figure: Figure) -> Figure:
    """The figure with what is asked of it, where its row does not say so itself."""
    for asked in AIMS.get(row, ()):
        if asked.name == figure.name and figure.aim is None:
            return replace(figure, unit=figure.unit or asked.unit, aim=asked.aim, at_most=asked.at_most)
    return figure


def unmet(row: str, found: Iterable[str], reason: str) -> list[Figure]:
    """What a row owes that ended without it: its aims that were not measured, or at least itself."""
    names = set(found)
    owed = [replace(asked, note=reason) for asked in AIMS.get(row, ()) if asked.name not in names]
    return owed or [Figure("the rest" if names else "all of it", note=reason)]


class Report:
    """The figures of all parts, as files in a folder: those of a part that is run again replace its old ones.

    Args:
        folder: Where gpu.json and gpu.md are; it is made.
        title: Of the page.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self.folder, self.title = folder, title
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "gpu.json"
        self.parts: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))["parts"] if path.exists() else {}

    def begin(self, part: int, about: Mapping[str, str]) -> None:
        """A part starts, and what it found before is forgotten. `about`: its command, and what it runs on."""
        self.parts[str(part)] = {**about, "figures": []}
        self.write()

    def add(self, part: int, row: str, figure: Figure, seconds: float) -> None:
        """One more figure, `seconds` after its part began, and what it depends on beside it."""
        of = self.parts[str(part)]
        about = {name: value for name, value in of.items() if name != "figures"}
        found = {**asdict(figure), "reached": figure.reached, "after_seconds": round(seconds, 1)}
        if figure.value is not None and not math.isfinite(figure.value):
            found |= {"value": None, "note": f"came out as {figure.value}; {figure.note}"}
        of["figures"].append({"row": row, **found, **about})
        self.write()

    def write(self) -> None:
        """Both files, each whole or not at all."""
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
