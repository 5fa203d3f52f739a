"""Figures 1 and 2 of the paper, drawn by this file: each box leads to its class, each formula to its line.

    python docs/figures.py

writes docs/pictures/figure_1.svg and figure_2.svg, and the tables below them in docs/blocks.md. A link names the text
of its line (`#:~:text=`), and stays right when lines above come and go.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
PAPER, INK, DARK_PAPER, DARK_INK = "#ffffff", "#222222", "#16181d", "#e8e8e8"
ON_BOX = "#000000"
# Okabe and Ito's colours, with black letters on them; words say the same as colours.
ATTENTION, NORM, FEED_FORWARD, EMBEDDING, OUTPUT = "#e69f00", "#f0e442", "#56b4e9", "#cc79a7", "#009e73"
STYLE = f"""
svg {{ max-width: 100%; height: auto; }}
.paper {{ fill: {PAPER}; }} .ink {{ fill: {INK}; }}
.line {{ stroke: {INK}; fill: none; stroke-width: 1.5; }}
.head {{ fill: {INK}; }}
.box {{ stroke: {INK}; stroke-width: 1.5; }} .on {{ fill: {ON_BOX}; }}
text {{ font: 13px system-ui, "DejaVu Sans", sans-serif; }}
.code {{ font: 12px ui-monospace, "DejaVu Sans Mono", monospace; }}
a .code {{ text-decoration: underline; }} a:hover .box, a:focus .box {{ stroke-width: 4; }}
@media (prefers-color-scheme: dark) {{
  .paper {{ fill: {DARK_PAPER}; }} .ink, .head {{ fill: {DARK_INK}; }} .line, .box {{ stroke: {DARK_INK}; }}
}}
"""


class Place(NamedTuple):
    """A line of the package: a file, and how the first line begins that has this text."""

    file: str
    code: str


def address(place: Place, folder: str) -> str:
    """Where the line is, from a place that has the repository at `folder`.

    Raises:
        ValueError: no line has its text, or the first one that has it begins with something else.
    """
    lines = (ROOT / "transformer_zoo" / place.file).read_text("utf-8").splitlines()
    first = next((line.strip() for line in lines if place.code in line), "")
    if not first.startswith(place.code):
        raise ValueError(
            f"transformer_zoo/{place.file}: no line begins with {place.code!r}, or not the first that has it"
        )
    return f"{folder}/transformer_zoo/{place.file}#:~:text={quote(place.code, safe='').replace('-', '%2D')}"


@dataclass(frozen=True)
class Box:
    """A part of the figure: its name in the paper, and ours."""

    words: str
    name: str
    place: Place
    fill: str
    x: float  # of its middle
    y: float  # of its top
    width: float = 200
    height: float = 42


@dataclass(frozen=True)
class Words:
    """Words beside a box: a formula of the paper with its line, or without a place words alone."""

    words: str
    x: float
    y: float
    place: Place | None = None
    anchor: str = "start"


@dataclass(frozen=True)
class Frame:
    """What a number of equal layers is drawn in."""

    x: float  # of its middle
    y: float
    height: float
    width: float = 256


class Figure(NamedTuple):
    """All that is drawn: `arrows` are lists of points, each with a head at its end."""

    title: str
    size: tuple[int, int]
    boxes: list[Box]
    words: list[Words]
    arrows: list[list[tuple[float, float]]]
    frames: list[Frame]
    sums: list[tuple[float, float]]


ATTENDS, RESIDUAL, EMBEDS = "blocks/attention.py", "blocks/residual.py", "blocks/embedding.py"
LAYERS, FORMULA, LOSS = "blocks/layers.py", "kernels/dot_product.py", "kernels/cross_entropy.py"
MULTI_HEAD = Place(ATTENDS, "class Attention(")
ADD_NORM = Place(RESIDUAL, "def add_residual(")
FFN = Place("blocks/feed_forward.py", "class FeedForward(")
TOKENS = Place(EMBEDS, "class TokenEmbedding(")


def _layer(x: float, bottom: float, sublayers: list[tuple[str, str, Place, str]], side: int) -> Figure:
    """Sublayers from below, each with its residual on one side: side -1 is the left."""
    boxes, arrows = [], []
    y = bottom - 74
    for words, name, place, fill in sublayers:
        boxes.append(Box(words, name, place, fill, x, y))
        boxes.append(Box("Add & Norm", "add_residual", ADD_NORM, NORM, x, y - 54))
        edge, out, below = x + side * 100, x + side * 114, y + 58
        start = y + (96 if y == bottom - 74 else 78)
        arrows += [[(x, start), (x, y + 42)], [(x, y), (x, y - 12)]]
        arrows.append([(x, below), (out, below), (out, y - 33), (edge, y - 33)])
        y -= 132
    return Figure("", (0, 0), boxes, [], arrows, [], [])


def figure_1() -> Figure:
    """The Transformer: the encoder on the left, the decoder on the right, formulas beside them."""
    left, right, beside, bottom = 150.0, 470.0, 612.0, 584.0
    attention = ("Multi-Head Attention", "Attention", MULTI_HEAD, ATTENTION)
    masked = ("Masked Multi-Head Attention", "Attention", MULTI_HEAD, ATTENTION)
    feed_forward = ("Feed Forward", "FeedForward", FFN, FEED_FORWARD)
    encoder = _layer(left, bottom, [attention, feed_forward], -1)
    decoder = _layer(right, bottom, [masked, attention, feed_forward], 1)
    boxes = [
        Box("Softmax", "cross_entropy", Place(LOSS, "def cross_entropy("), OUTPUT, right, 44),
        Box("Linear", "TokenEmbedding.logits", Place(EMBEDS, "def logits("), OUTPUT, right, 104),
        *encoder.boxes,
        *decoder.boxes,
        Box("Positional Encoding", "SinusoidalPositions", Place("blocks/positions.py", "class SinusoidalPositions("),
            EMBEDDING, (left + right) / 2, 596, 170),
        Box("Input Embedding", "TokenEmbedding", TOKENS, EMBEDDING, left, 656),
        Box("Output Embedding", "TokenEmbedding", TOKENS, EMBEDDING, right, 656),
    ]  # fmt: skip
    formulas = [
        ("−log softmax(h E^T)", 70, Place(LOSS, "return F.cross_entropy(logits, targets,")),
        ("h E^T", 130, Place(EMBEDS, "return linear(hidden, self.weight)")),
        ("LayerNorm(x + Dropout(Sublayer(x)))", 217, Place(RESIDUAL, "return norm(x + dropout(sublayer(x)))")),
        ("max(0, x W_1 + b_1) W_2 + b_2", 271,
         Place("blocks/feed_forward.py", "inner = self.activation(self.up_proj(x))")),
        ("Concat(head_1, …, head_h) W^O", 403, Place(ATTENDS, "out: Tensor = self.out_proj(")),
        ("token i sees tokens 1 to i", 535, Place("blocks/masks.py", "return ones.tril(")),
        ("sin and cos of pos / 10000^(2i/d)", 621, Place("blocks/positions.py", "waves = torch.stack([angles.sin()")),
        ("E[token] √d_model", 681, Place(EMBEDS, "return vectors if self.scale == 1")),
    ]  # fmt: skip
    named = [
        Words("EncoderDecoder", 20, 34, Place("models/encoder_decoder.py", "class EncoderDecoder(")),
        Words("N × EncoderLayer", 24, 296, Place(LAYERS, "class EncoderLayer(")),
        Words("N × DecoderLayer", 342, 168, Place(LAYERS, "class DecoderLayer(")),
        *(Words(words, beside, y, place) for words, y, place in formulas),
    ]
    plain = [
        Words("Output Probabilities", right, 24, anchor="middle"),
        Words("Inputs", left, 728, anchor="middle"),
        Words("Outputs (shifted right)", right, 728, anchor="middle"),
        Words("memory", 310, 336, anchor="middle"),
    ]
    arrows = [*encoder.arrows, *decoder.arrows, [(250, 345), (310, 345), (310, 399), (370, 399)]]
    arrows += [[(right, 104), (right, 86)], [(right, 192), (right, 146)], [(right, 44), (right, 30)]]
    arrows += [[(225, 617), (161, 617)], [(395, 617), (459, 617)]]
    for x in (left, right):
        arrows += [[(x, 714), (x, 698)], [(x, 656), (x, 628)]]
    frames = [Frame(left, 308, 276), Frame(right, 176, 408)]
    sums = [(left, 617.0), (right, 617.0)]
    return Figure("Figure 1: the Transformer", (890, 744), boxes, named + plain, arrows, frames, sums)


def figure_2() -> Figure:
    """Scaled dot-product attention on the left, multi-head attention on the right."""
    x, y, heads = 130.0, 60.0, 520.0
    steps = [
        ("MatMul", "formula", "def formula(", "softmax(…) V", "return weights @ per_query_head(", ATTENTION),
        ("SoftMax", "weigh", "def weigh(", "softmax", "return scores.softmax(-1)", OUTPUT),
        ("Mask (opt.)", "weigh", "def weigh(", "−∞ where it may not attend", "return scores.masked_fill(", EMBEDDING),
        ("Scale", "score", "def score(", "1 / √d_k", "scale = queries.size(", NORM),
        ("MatMul", "score", "def score(", "Q K^T", "scores = (queries * scale) @", ATTENTION),
    ]  # fmt: skip
    boxes, words, arrows = list[Box](), list[Words](), list[list[tuple[float, float]]]()
    for i, (step, name, begins, formula, line, fill) in enumerate(steps):
        boxes.append(Box(step, name, Place(FORMULA, begins), fill, x, y + 64 * i, 130))
        words.append(Words(formula, x + 84, y + 64 * i + 26, Place(FORMULA, line)))
        arrows += [[(x, y + 64 * i), (x, y + 64 * i - 22)]]
    below = y + 64 * 5 + 10
    arrows += [[(x - 30, below), (x - 30, y + 64 * 4 + 42)], [(x + 30, below), (x + 30, y + 64 * 4 + 42)]]
    arrows += [[(x - 90, below), (x - 90, y + 21), (x - 65, y + 21)]]
    words += [Words(name, x + dx, below + 18, anchor="middle") for name, dx in (("V", -90), ("Q", -30), ("K", 30))]
    boxes += [
        Box("Linear", "out_proj", Place(ATTENDS, "self.out_proj = Linear("), FEED_FORWARD, heads, y),
        Box("Concat", "transpose, flatten", Place(ATTENDS, "out: Tensor = self.out_proj("), NORM, heads, y + 64),
        Box("Scaled Dot-Product Attention", "attend", Place("blocks/dot_product.py", "def attend("), ATTENTION, heads,
            y + 128, 216),
    ]  # fmt: skip
    for name, place, dx in (("q", "q_proj", 84), ("k", "k_proj", 0), ("v", "v_proj", -84)):
        begins = Place(ATTENDS, f"self.{place} = Linear(")
        boxes.append(Box("Linear", place, begins, FEED_FORWARD, heads + dx, y + 208, 76))
        arrows += [[(heads + dx, y + 208), (heads + dx, y + 170)], [(heads + dx, y + 276), (heads + dx, y + 250)]]
        words.append(Words(name.upper(), heads + dx, y + 294, anchor="middle"))
    arrows += [[(heads, y + 64 * i), (heads, y + 64 * i - 22)] for i in range(3)]
    words += [
        Words("attend", 20, 26, Place("blocks/dot_product.py", "def attend(")),
        Words("Scaled Dot-Product Attention", 78, 26),
        Words("Attention", 400, 26, MULTI_HEAD),
        Words("Multi-Head Attention", 480, 26),
        Words("Concat(head_1, …, head_h) W^O", 650, y + 26, Place(ATTENDS, "out: Tensor = self.out_proj(")),
        Words("Attention(Q W^Q, K W^K, V W^V) of h heads", 650, y + 154, Place(ATTENDS, "heads = scaled_dot_product(")),
        Words("Q W^Q, cut into heads", 650, y + 214, Place(ATTENDS, "queries = self._split_heads(")),
        Words("K W^K, cut into heads", 650, y + 234, Place(ATTENDS, "keys = self._split_heads(")),
        Words("V W^V, cut into heads", 650, y + 254, Place(ATTENDS, "return ProjectedMemory(")),
    ]
    title = "Figure 2: scaled dot-product attention, and multi-head attention"
    return Figure(title, (960, 420), boxes, words, arrows, [], [])


FIGURES = {"figure_1": figure_1, "figure_2": figure_2}


def drawn(figure: Figure) -> str:
    """The figure as SVG, for docs/pictures."""
    width, height = figure.size
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<title>{escape(figure.title)}</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0 8 4 0 8z"/></marker></defs>',
        f'<rect class="paper" width="{width}" height="{height}" rx="8"/>',
    ]
    for frame in figure.frames:
        left = frame.x - frame.width / 2
        parts.append(_rect("line", left, frame.y, frame.width, frame.height, 10))
    for points in figure.arrows:
        path = " L".join(f"{x:g} {y:g}" for x, y in points)
        parts.append(f'<path class="line" d="M{path}" marker-end="url(#head)"/>')
    for x, y in figure.sums:
        plus = f"M{x - 6:g} {y:g}h12M{x:g} {y - 6:g}v12"
        parts.append(f'<circle class="line" cx="{x:g}" cy="{y:g}" r="11"/><path class="line" d="{plus}"/>')
    parts += [_linked(_box(box), box.words, box.place) for box in figure.boxes]
    for words in figure.words:
        style = "ink" if words.place is None else "ink code"
        text = _text(style, words.x, words.y, words.words, words.anchor)
        parts.append(text if words.place is None else _linked(text, words.words, words.place))
    return "\n".join([*parts, "</svg>", ""])


def _rect(style: str, x: float, y: float, width: float, height: float, round: int, fill: str = "") -> str:
    colour = f' fill="{fill}"' if fill else ""
    return f'<rect class="{style}"{colour} x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round}"/>'


def _text(style: str, x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def _box(box: Box) -> str:
    parts = [_rect("box", box.x - box.width / 2, box.y, box.width, box.height, 4, box.fill)]
    parts += [_text("on", box.x, box.y + 18, box.words), _text("on code", box.x, box.y + 34, box.name)]
    return "".join(parts)


def _linked(inside: str, words: str, place: Place) -> str:
    title = f"{words}: {place.code.rstrip('(:')} in transformer_zoo/{place.file}"
    return f'<a href="{escape(address(place, "../.."))}"><title>{escape(title)}</title>{inside}</a>'


def table(figure: Figure) -> Iterator[str]:
    """The same links as lines of a page, for readers who do not see the figure."""
    yield from ("| in the figure | in the code |", "|---|---|")
    rows = {(box.words, box.name): box.place for box in figure.boxes}
    rows |= {(words.words, words.place.code): words.place for words in figure.words if words.place is not None}
    for (words, name), place in rows.items():
        yield f"| {words} | [`{name}`]({address(place, '..')}) in `{place.file}` |"


def with_tables(page: str) -> str:
    """The page, with the table of each figure between its two comments."""
    for name, figure in FIGURES.items():
        inside = re.compile(rf"(<!-- links of {name} -->\n).*?(<!-- end of {name} -->)", re.S)
        lines = "\n".join(table(figure()))
        page, n = inside.subn(lambda found: f"{found[1]}\n{lines}\n\n{found[2]}", page)  # noqa: B023
        if n != 1:
            raise ValueError(f"docs/blocks.md has {n} places for the links of {name}, expected one")
    return page


def main() -> None:
    """Writes the figures and the tables."""
    for name, figure in FIGURES.items():
        (ROOT / "docs" / "pictures" / f"{name}.svg").write_text(drawn(figure()), "utf-8")
    page = ROOT / "docs" / "blocks.md"
    page.write_text(with_tables(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
