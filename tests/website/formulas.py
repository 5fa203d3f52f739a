"""Formulas in TeX become pictures in the page, so that none needs a script."""

import io
import re
from html import escape

from matplotlib.mathtext import math_to_image

FORMULA = re.compile(r"^\$\$(.+?)\$\$$", re.M | re.S)
SVG = re.compile(r"<svg.*</svg>", re.S)


def drawn(text: str) -> str:
    """A page with each formula between lines of two dollars as a drawing in the colour of its text."""
    return FORMULA.sub(lambda found: draw(" ".join(found[1].split())), text)


def draw(formula: str) -> str:
    """One formula as HTML."""
    file = io.StringIO()
    math_to_image(f"${formula}$", file, format="svg")
    found = SVG.search(file.getvalue())
    assert found
    svg = found[0].replace("\n", " ")
    return f'<div class="formula" role="img" aria-label="{escape(formula)}">{svg}</div>'
