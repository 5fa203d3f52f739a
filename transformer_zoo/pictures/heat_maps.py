"""Heat maps: who looks at whom, and how places are told apart."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.pictures.drawing import (
    DARK,
    LIGHT,
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

Pieces = tuple[Sequence[str], Sequence[str]]
"""Of rows and of columns."""
Shape = tuple[int, int, int, int]
"""Layers, heads, rows and columns of each head."""

_WIDEST, _CELL, _LEAST_LETTER = 45.0, (0.17, 0.45), 4.5  # inches, inches, points
_SIDES: Mapping[AttentionKind, tuple[str, str]] = {
    "encoder": ("source piece", "source piece"),
    "decoder": ("target piece", "target piece"),
    "cross": ("written piece", "source piece"),
}


def attention(
    maps: AttentionMaps,
    kind: AttentionKind | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
    dark: bool = False,
) -> "Figure":
    """Who looks at whom: a row of heads for each layer; in each head a row for each piece that looks.
    >>> attention(attention_maps(run, "to be"), layer=1).axes[0].get_title("left")
    'decoder: attention of layer 1'

    Args:
        maps: of `attention_maps`.
        kind: of attention; None: all that there are, one below the other.
        layer, head: only this one, counted from 1; None: all.
        dark: for a dark page.

    Raises:
        UserError: no such kind, layer or head, or no matplotlib.
    """
    kinds = [*maps.weights] if kind is None else [kind]
    tiles = {one: _tiles(maps, one, layer, head) for one in kinds}
    sizes = {one: _cell(tile) for one, (tile, _) in tiles.items()}
    heights = [max(1.6, sizes[one] * tile.shape[0]) + 1.3 for one, (tile, _) in tiles.items()]
    widths = [max(2.4, sizes[one] * tile.shape[1]) + 2.6 for one, (tile, _) in tiles.items()]
    look = DARK if dark else LIGHT
    figure = new_figure(max(widths), sum(heights), look)
    all_axes = figure.subplots(len(kinds), 1, squeeze=False, height_ratios=heights)[:, 0]
    of = "".join([f" of layer {layer}" * (layer is not None), f", head {head}" * (head is not None)])
    for axes, (one, (tile, shape)) in zip(all_axes, tiles.items(), strict=True):
        draw_heat(axes, tile, look, "weight (each row adds up to 1)", (0, 1))
        axes.set_title(f"{one}-attention{of}" if one == "cross" else f"{one}: attention{of}", loc="left")
        _name_tiles(axes, maps.pieces(one), shape, sizes[one], (layer or 1, head or 1))
        rows, columns = _SIDES[one]
        axes.set(ylabel=f"{rows} that looks", xlabel=f"{columns} that is looked at")
    return finished(figure, look)


def _tiles(maps: AttentionMaps, kind: AttentionKind, layer: int | None, head: int | None) -> tuple[NDArray[Any], Shape]:
    """All heads of a kind as one picture with lines of nothing between, and (layers, heads, Tq, Tk)."""
    if kind not in maps.weights:
        raise UserError(f"there is no attention of kind {kind!r}: there is {', '.join(maps.weights)}")
    layers = maps.weights[kind]
    if layer is not None and not 1 <= layer <= len(layers):
        raise UserError(f"layer {layer}: there are {len(layers)}, from 1")
    layers = layers if layer is None else [layers[layer - 1]]
    most = max(map(len, layers))
    if head is not None and not 1 <= head <= most:
        raise UserError(f"head {head}: there are {most}, from 1")
    layers = layers if head is None else [heads[head - 1 : head] for heads in layers]
    n, (_, rows, columns) = max(map(len, layers)), layers[0].shape
    tile = np.full((len(layers), rows + 1, n, columns + 1), np.nan, np.float32)
    for i, heads in enumerate(layers):
        tile[i, :-1, : len(heads), :-1] = heads.transpose(0, 1).numpy()
    flat = tile.reshape(len(layers) * (rows + 1), n * (columns + 1))
    return flat[:-1, :-1], (len(layers), n, rows, columns)


def _cell(tile: NDArray[Any]) -> float:
    """The side of one weight, in inches."""
    least, most = _CELL
    longest: int = max(tile.shape)
    return min(max(least, min(most, 6 / longest)), _WIDEST / longest)


def _name_tiles(axes: "Axes", pieces: Pieces, shape: Shape, cell: float, first: tuple[int, int] = (1, 1)) -> None:
    """Pieces at the left and below, layers at the right and heads above."""
    letters = min(9.0, cell * 72 * 0.75)
    n_layers, n_heads, rows, columns = shape
    for axis, names, n, n_tiles in (("y", pieces[0], rows, n_layers), ("x", pieces[1], columns, n_heads)):
        places = [tile * (n + 1) + i for tile in range(n_tiles) for i in range(n)]
        is_legible = letters >= _LEAST_LETTER
        labels = [label_of(name) for name in names] * n_tiles if is_legible else []
        getattr(axes, f"set_{axis}ticks")(places if is_legible else [], labels)
        axes.tick_params(axis=axis, labelsize=letters, length=0, labelrotation=90 if axis == "x" else 0)  # type: ignore[arg-type]
    if n_layers > 1 or n_heads > 1:
        right, above = axes.secondary_yaxis("right"), axes.secondary_xaxis("top")
        right.set_yticks([i * (rows + 1) + (rows - 1) / 2 for i in range(n_layers)])
        right.set_yticklabels([f"layer {first[0] + i}" for i in range(n_layers)])
        above.set_xticks([i * (columns + 1) + (columns - 1) / 2 for i in range(n_heads)])
        above.set_xticklabels([f"head {first[1] + i}" for i in range(n_heads)])
        for beside in (right, above):
            beside.tick_params(length=0, labelsize=8)
            beside.spines[:].set_visible(False)


def alignment(source: Sequence[str], target: Sequence[str], weights: Tensor, *, dark: bool = False) -> "Figure":
    """Which pieces of a source each piece of a translation looks at; a dot marks the one it looks at most.
    >>> alignment(["yes", "</s>"], ["ja", "</s>"], torch.eye(2)).axes[0].get_xlabel()
    'source piece'

    Args:
        source, target: pieces, such as those of `AttentionMaps.pieces("cross")`, in the other order.
        weights: (Tt, Ts), such as `AttentionMaps.alignment`.
        dark: for a dark page.

    Raises:
        UserError: weights of another shape, or no matplotlib.
    """
    if tuple(weights.shape) != (len(target), len(source)):
        raise UserError(
            f"weights are {tuple(weights.shape)}, expected ({len(target)}, {len(source)}) as there are pieces"
        )
    look, values = DARK if dark else LIGHT, weights.detach().float().cpu().numpy()
    cell = _cell(values)
    figure = new_figure(max(2.4, cell * len(source)) + 2.4, max(1.6, cell * len(target)) + 1.3, look)
    axes = figure.subplots()
    draw_heat(axes, values, look, "attention (each row adds up to 1)", (0, 1))
    _name_tiles(axes, (target, source), (1, 1, len(target), len(source)), cell)
    for row, column in enumerate(values.argmax(-1)) if values.size else ():
        colour = "#000000" if values[row, column] > 0.5 else "#ffffff"
        axes.plot(column, row, "o", color=colour, markersize=max(1.0, cell * 12))
    axes.set(ylabel="written piece", xlabel="source piece")
    axes.set_title("alignment by cross-attention", loc="left")
    return finished(figure, look)


def positions(table: PositionsTable, *, dark: bool = False) -> "Figure":
    """How places are told apart: the table itself, and how alike two places are; of scores a line for each head.
    >>> positions(positions_table(run.model, n=16)[0]).axes[0].get_xlabel()
    'dimension'

    Args:
        table: one of `positions_table`.
        dark: for a dark page.

    Raises:
        UserError: no matplotlib.
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
