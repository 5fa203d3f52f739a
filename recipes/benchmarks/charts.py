"""Charts as small SVG files: bars, and dots on a scale.

A chart brings its own paper, light or dark as the reader's system is set, so it can be read on every page. Ours is a
filled bar and a peer a hollow one; the kinds of dots have different shapes. No colour has a meaning of its own.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count, takewhile

WIDTH, VALUE, ROW, GAP = 720, 80, 22, 10  # pixels: of all, of a value beside its bar, of a line, between groups
CHARACTER, LONGEST = 7.4, 420  # pixels: of a letter of 13 pixels, and of all names at most
LIGHT = {"paper": "#ffffff", "ink": "#1b1f24", "ours": "#0072b2"}
DARK = {"paper": "#14171a", "ink": "#e8eaed", "ours": "#56b4e9"}
"""Paper, text and lines, and what is filled: blue and sky blue of Okabe and Ito 2008."""


@dataclass(frozen=True)
class Bar:
    """A name, its value, how the value is written, and whether it is ours."""

    name: str
    value: float
    written: str
    ours: bool


@dataclass(frozen=True)
class Group:
    """Bars with a heading, which may be empty; `longest` is the value that the longest bar of its scale has."""

    heading: str
    bars: Sequence[Bar]
    longest: float


def bars(title: str, unit: str, groups: Sequence[Group]) -> str:
    """An SVG of bars. `unit` says what is measured, and whether more is better."""
    left = _room(bar.name for group in groups for bar in group.bars)
    y, drawn = _HEAD, list[str]()
    for group in groups:
        y += GAP
        if group.heading:
            drawn.append(_text(left, y + 14, group.heading, weight="bold"))
            y += ROW
        top = y
        for bar in group.bars:
            length = (WIDTH - VALUE - left) * bar.value / group.longest
            drawn += [
                _text(left - 8, y + 15, bar.name, anchor="end"),
                f'<rect class="{"filled" if bar.ours else "hollow"}" x="{left:.1f}" y="{y + 4}" width="{length:.1f}" '
                'height="14"/>',
                _text(left + length + 6, y + 15, bar.written),
            ]
            y += ROW
        drawn.append(_line(left, top, left, y))
    return _svg(title, unit, y + GAP, drawn)


SHAPES = {
    "filled circle": '<circle class="filled" cx="{x:.1f}" cy="{y}" r="4.5"/>',
    "hollow circle": '<circle class="hollow" cx="{x:.1f}" cy="{y}" r="4.5"/>',
    "filled square": '<rect class="filled" x="{left:.1f}" y="{top}" width="8" height="8"/>',
    "hollow square": '<rect class="hollow" x="{left:.1f}" y="{top}" width="8" height="8"/>',
}


def dots(title: str, unit: str, mark: str, lines: dict[str, dict[str, list[float]]]) -> str:
    """An SVG with a line for each name, and on it the values of each kind as dots of one shape; four kinds at most.

    A dashed line stands at 1, and `mark` says what that means.
    """
    kinds = list(dict.fromkeys(kind for values in lines.values() for kind in values))
    shapes = dict(zip(kinds, SHAPES.values(), strict=False))
    left, most = _room(lines), max(x for values in lines.values() for of_kind in values.values() for x in of_kind)
    scale = (WIDTH - 40 - left) / most
    drawn, top = _legend(shapes), _HEAD + GAP + ROW * (1 + math.ceil(len(shapes) / 2))
    bottom = top + ROW * len(lines)
    for tick in takewhile(lambda tick: tick <= most, count()):
        drawn += [_line(left + tick * scale, bottom, left + tick * scale, bottom + 5)]
        drawn += [_text(left + tick * scale, bottom + 20, str(tick), anchor="middle")]
    drawn += [_line(left, bottom, WIDTH - 40, bottom), _line(left + scale, top, left + scale, bottom, dashes="6 4")]
    drawn += [_text(left + scale + 6, top - 6, mark)]
    for i, (name, values) in enumerate(lines.items()):
        y = top + ROW * i + ROW // 2
        found = [x for of_kind in values.values() for x in of_kind]
        drawn += [
            _text(left - 8, y + 4, name, anchor="end"),
            _line(left, y, left + max(found) * scale, y, dashes="1 3"),
        ]
        drawn += [_dot(shapes[kind], left + x * scale, y) for kind in values for x in values[kind]]
    return _svg(title, unit, bottom + ROW + GAP, drawn)


_HEAD = 52  # pixels above everything: title and unit


def _room(names: Iterable[str]) -> float:
    """Pixels that the longest name takes, and a margin."""
    return min(LONGEST, 24 + CHARACTER * max(map(len, names)))


def _dot(shape: str, x: float, y: int) -> str:
    return shape.format(x=x, y=y, left=x - 4, top=y - 4)


def _legend(shapes: dict[str, str]) -> list[str]:
    """Two kinds a line."""
    drawn = list[str]()
    for i, (kind, shape) in enumerate(shapes.items()):
        x, y = 21 + i % 2 * WIDTH // 3, _HEAD + 14 + i // 2 * ROW
        drawn += [_dot(shape, x, y), _text(x + 12, y + 4, kind)]
    return drawn


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, *, dashes: str = "none") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1}" x2="{x2:.1f}" y2="{y2}" stroke-dasharray="{dashes}"/>'


def _style(colours: dict[str, str]) -> str:
    paper, ink, ours = colours["paper"], colours["ink"], colours["ours"]
    return (
        f".paper{{fill:{paper}}} text{{fill:{ink}}} line{{stroke:{ink}}} "
        f".filled{{fill:{ours};stroke:{ours}}} .hollow{{fill:{paper};stroke:{ink}}}"
    )


def _svg(title: str, unit: str, height: float, drawn: Sequence[str]) -> str:
    """The file: a line for each thing that is drawn."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title">',
        f'<title id="title">{escape(f"{title}: {unit}")}</title>',
        "<style>text{font:13px system-ui,sans-serif}",
        _style(LIGHT),
        f"@media (prefers-color-scheme:dark){{{_style(DARK)}}}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        f'<text x="16" y="24" style="font-size:16px" font-weight="bold">{escape(title)}</text>',
        _text(16, 44, unit),
    ]
    return "\n".join([*head, *drawn, "</svg>\n"])
