"""Heat maps of attention and of positions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.pictures.drawing import (
    DARK,
    LIGHT,
    Look,
    colours_of,
    draw_heat,
    finished,
    label_of,
    new_figure,
    plain_axes,
)
from transformer_zoo.runs import AttentionMaps, PositionsTable
from transformer_zoo.runs.looking import AttentionKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDEST, _CELL, _LEAST_LETTER = 45.0, (0.17, 0.45), 4.5  # inches, inches, points
_SIDES: Mapping[AttentionKind, tuple[str, str]] = {
    "encoder": ("source piece", "source piece"),
    "decoder": ("target piece", "target piece"),
    "cross": ("written piece", "source piece"),
}
_TITLES = {"encoder": "attention of the encoder", "decoder": "attention of the decoder", "cross": "cross-attention"}


class _Panel(NamedTuple):
    """One heat map: tiles of all heads, with the names of their rows and columns."""

    title: str
    values: NDArray[Any]
    shape: tuple[int, int, int, int]  # layers, heads, Tq, Tk
    pieces: tuple[Sequence[str], Sequence[str]]
    sides: tuple[str, str]
    first: tuple[int, int] = (1, 1)  # layer and head
    marked: bool = False

    @property
    def cell(self) -> float:
        """The side of the square for one weight, in inches."""
        least, most = _CELL
        longest: int = max(self.values.shape)
        return min(max(least, min(most, 6 / longest)), _WIDEST / longest)


def attention(
    maps: AttentionMaps,
    kind: AttentionKind | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
    dark: bool = False,
) -> "Figure":
    """Attention weights: a row of heads for each layer; each head has a row for each piece that attends.
    >>> attention(attention_maps(run, "to be"), layer=1).axes[0].get_title("left")
    'attention of the decoder, layer 1'

    Args:
        maps: the result of `attention_maps`.
        kind: kind of attention; None: all kinds, one below the other, and the alignment before them.
        layer, head: show only this one, counted from 1; None: all.
        dark: for a dark page.

    Raises:
        UserError: the kind, layer or head does not exist, or matplotlib is not installed.
    """
    panels = [_panel(maps, one, layer, head) for one in ([*maps.weights] if kind is None else [kind])]
    if (kind, layer, head) == (None, None, None) and "cross" in maps.weights:
        panels.insert(0, _aligned(maps.source, maps.written, maps.alignment))
    return _draw(panels, DARK if dark else LIGHT)


def alignment(source: Sequence[str], target: Sequence[str], weights: Tensor, *, dark: bool = False) -> "Figure":
    """Which pieces of a source each piece of a translation attends to; a dot marks the largest weight.
    >>> alignment(["yes", "</s>"], ["ja", "</s>"], torch.eye(2)).axes[0].get_xlabel()
    'source piece that is looked at'

    Args:
        source, target: pieces, such as `source` and `written` of `AttentionMaps`.
        weights: (Tt, Ts), such as `AttentionMaps.alignment`.
        dark: for a dark page.

    Raises:
        UserError: the weights have another shape, or matplotlib is not installed.
    """
    if tuple(weights.shape) != (wanted := (len(target), len(source))):
        raise UserError(f"weights are {tuple(weights.shape)}, expected {wanted}, as there are pieces")
    return _draw([_aligned(source, target, weights)], DARK if dark else LIGHT)


def _panel(maps: AttentionMaps, kind: AttentionKind, layer: int | None, head: int | None) -> _Panel:
    """All heads of a kind as one picture, separated by empty lines."""
    if kind not in maps.weights:
        raise UserError(f"there is no attention of kind {kind!r}: there is {', '.join(maps.weights)}")
    layers = maps.weights[kind]
    most = max(map(len, layers))
    for name, number, last in (("layer", layer, len(layers)), ("head", head, most)):
        if number is not None and not 1 <= number <= last:
            raise UserError(f"{name} {number}: there are {last}, from 1")
    layers = layers if layer is None else [layers[layer - 1]]
    layers = layers if head is None else [heads[head - 1 : head] for heads in layers]
    n, (_, rows, columns) = most if head is None else 1, layers[0].shape
    tiles = np.full((len(layers), rows + 1, n, columns + 1), np.nan, np.float32)
    for i, heads in enumerate(layers):
        tiles[i, :-1, : len(heads), :-1] = heads.transpose(0, 1).numpy()
    flat = tiles.reshape(len(layers) * (rows + 1), n * (columns + 1))[:-1, :-1]
    of = f", layer {layer}" * (layer is not None) + f", head {head}" * (head is not None)
    shape, first = (len(layers), n, rows, columns), (layer or 1, head or 1)
    return _Panel(_TITLES[kind] + of, flat, shape, maps.pieces(kind), _SIDES[kind], first)


def _aligned(source: Sequence[str], target: Sequence[str], weights: Tensor) -> _Panel:
    values, shape = weights.detach().float().cpu().numpy(), (1, 1, len(target), len(source))
    return _Panel("alignment by cross-attention", values, shape, (target, source), _SIDES["cross"], marked=True)


def _draw(panels: Sequence[_Panel], look: Look) -> "Figure":
    heights = [max(1.6, one.cell * one.values.shape[0]) + 1.3 for one in panels]
    widths = [max(2.4, one.cell * one.values.shape[1]) + 2.6 for one in panels]
    figure = new_figure(max(widths), sum(heights), look)
    all_axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=True):
        draw_heat(axes, panel.values, look, "weight (each row adds up to 1)", (0, 1))
        axes.set_title(panel.title, loc="left")
        _name_pieces(axes, panel)
        _name_heads(axes, panel)
        axes.set(ylabel=f"{panel.sides[0]} that looks", xlabel=f"{panel.sides[1]} that is looked at")
        for row, column in enumerate(panel.values.argmax(-1)) if panel.marked and panel.values.size else ():
            colour = "#000000" if panel.values[row, column] > 0.5 else "#ffffff"
            axes.plot(column, row, "o", color=colour, markersize=max(1.0, panel.cell * 12))
    return finished(figure, look)


def _name_pieces(axes: "Axes", panel: _Panel) -> None:
    """Names at the left and below, if letters are large enough to be read."""
    letters = min(9.0, panel.cell * 72 * 0.75)
    n_layers, n_heads, rows, columns = panel.shape
    for axis, names, n, n_tiles in (("y", panel.pieces[0], rows, n_layers), ("x", panel.pieces[1], columns, n_heads)):
        places = [tile * (n + 1) + i for tile in range(n_tiles) for i in range(n)]
        labels = [label_of(name) for name in names] * n_tiles
        getattr(axes, f"set_{axis}ticks")(*((places, labels) if letters >= _LEAST_LETTER else ([],)))
    axes.tick_params(labelsize=letters, length=0)
    axes.tick_params(axis="x", labelrotation=90)


def _name_heads(axes: "Axes", panel: _Panel) -> None:
    """Layers at the right and heads above, if there are several."""
    n_layers, n_heads, rows, columns = panel.shape
    if n_layers == n_heads == 1:
        return
    right, above = axes.secondary_yaxis("right"), axes.secondary_xaxis("top")
    layers, heads = ([number + i for i in range(n)] for number, n in zip(panel.first, (n_layers, n_heads), strict=True))
    right.set_yticks([i * (rows + 1) + (rows - 1) / 2 for i in range(n_layers)], [f"layer {i}" for i in layers])
    above.set_xticks([i * (columns + 1) + (columns - 1) / 2 for i in range(n_heads)], [f"head {i}" for i in heads])
    for beside in (right, above):
        beside.tick_params(length=0, labelsize=8)
        beside.spines[:].set_visible(False)


def positions(table: PositionsTable, *, dark: bool = False) -> "Figure":
    """How positions are distinguished: the table itself, and the similarity of two positions; scores have a line a
    head.
    >>> positions(positions_table(run.model, n=16)[0]).axes[0].get_xlabel()
    'dimension'

    Args:
        table: one of `positions_table`.
        dark: for a dark page.

    Raises:
        UserError: matplotlib is not installed.
    """
    look, values = DARK if dark else LIGHT, table.values.numpy()
    if table.columns == "head":
        figure = new_figure(6.4, 4.2, look)
        axes = plain_axes(figure.subplots(), look)
        colours = colours_of(values.shape[1], look)
        for head, scores in enumerate(values.T):
            axes.plot(table.places, scores, color=colours[head], label=f"head {head + 1}", linewidth=1.4)
        axes.set(xlabel="how far the key lies behind the query (tokens)", ylabel="added to the score")
        axes.legend(frameon=False, fontsize=8, ncols=1 + (values.shape[1] - 1) // 8)
        axes.set_title(table.title, loc="left")
        return finished(figure, look)
    figure = new_figure(11, 4.6, look)
    left, right = figure.subplots(1, 2)
    largest = float(np.abs(values).max()) or 1.0
    draw_heat(left, values, look, "value", (-largest, largest), aspect="auto")
    left.set(xlabel=table.columns, ylabel="position (tokens from the start)")
    alike = torch.nn.functional.cosine_similarity(table.values[:, None], table.values[None], dim=-1).numpy()
    draw_heat(right, alike, look, "cosine of two positions", (-1, 1))
    right.set(xlabel="position (tokens from the start)", ylabel="position (tokens from the start)")
    left.set_title(table.title, loc="left")
    right.set_title("how alike two positions are", loc="left")
    return finished(figure, look)
