"""What all pictures share: light and dark, colours, fonts, heat maps."""

import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transformer_zoo.errors import UserError, escaped
from transformer_zoo.runs.looking import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LONGEST = 24  # characters of a label


class Look(NamedTuple):
    """The colours of a picture: of the background, of text, of less important things, and of lines."""

    paper: str
    ink: str
    faint: str
    lines: tuple[str, ...]


LIGHT = Look("#ffffff", "#1b1f24", "#c9ced6", ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"))
DARK = Look("#14171a", "#e8eaed", "#484f58", ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00"))


def check_matplotlib() -> None:
    """Check that matplotlib is installed. UserError: it is not."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise UserError("pictures need matplotlib: pip install 'transformer-zoo[pictures]'") from None


def new_figure(width: float, height: float, look: Look) -> "Figure":
    """An empty figure, in inches. UserError: matplotlib is not installed."""
    check_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor=look.paper, layout="constrained")


def draw_heat(
    axes: "Axes", values: NDArray[Any], look: Look, label: str, limits: tuple[float, float], aspect: Any = "equal"
) -> None:
    """Values as colours, with a colour bar beside them. Values that are not numbers are left out."""
    low, high = limits
    image = axes.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
    axes.set_facecolor(look.paper)
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02, aspect=30)
    bar.set_label(label)
    bar.outline.set_visible(False)


def plain_axes(axes: "Axes", look: Look) -> "Axes":
    """Axes for lines or bars."""
    axes.set_facecolor(look.paper)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(look.faint)
    axes.grid(color=look.faint, linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    return axes


def colours_of(n: int, look: Look) -> list[Any]:
    """As many colours as are wanted: by name, or many along a scale."""
    if n <= len(look.lines):
        return [*look.lines[:n]]
    from matplotlib import colormaps

    return [colormaps["viridis"](x) for x in np.linspace(0.05, 0.95, n)]


def finished(figure: "Figure", look: Look) -> "Figure":
    """Set all text in the colour of ink, literally and not as formulas, in fonts that have its letters."""
    from matplotlib.text import Text

    for axes in figure.axes:
        axes.tick_params(colors=look.ink, labelcolor=look.ink)
    families, _ = _fonts()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set(color=look.ink, parse_math=False, usetex=False, fontfamily=families)
    return figure


@cache
def _fonts() -> tuple[list[str], frozenset[int]]:
    """Font families to take letters from, in this order, and all characters that they have."""
    from matplotlib import font_manager

    wide = re.compile(r"CJK|Noto Sans|Unifont|Droid Sans Fallback|WenQuanYi|Arial Unicode|IPA", re.I)
    more = sorted({font.name for font in font_manager.fontManager.ttflist if wide.search(font.name)})
    families = ["DejaVu Sans", *more]
    files = (font_manager.findfont(family) for family in families)
    return families, frozenset(code for file in files for code in font_manager.get_font(file).get_charmap())


def legible(text: str) -> str:
    """The text with escapes for characters that cannot be shown."""
    _, known = _fonts()
    return "".join(c if ord(c) in known else c.encode("unicode_escape").decode() for c in escaped(text))


def label_of(piece: str) -> str:
    """A piece in the form in which it stands beside a picture."""
    text = legible(visible(piece))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
