"""Lines and bars: learning curves of runs, and probabilities of next tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_zoo.errors import UserError
from transformer_zoo.pictures.drawing import (
    DARK,
    LIGHT,
    Look,
    colours_of,
    finished,
    label_of,
    legible,
    new_figure,
    plain_axes,
)
from transformer_zoo.runs.history import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vP"  # a second way to distinguish lines
_LONGEST_TITLE = 36  # number of characters of the end of the text before
_UNITS = {
    "loss": "loss (nats per token)", "bleu": "BLEU (0 to 100)", "bits_per_byte": "bits per byte",
    "lr": "learning rate", "accuracy": "share of guesses that are right",
}  # fmt: skip


def distributions(
    *places: Sequence[tuple[str, int, float]], titles: Sequence[str] = (), dark: bool = False
) -> "Figure":
    """Probabilities of the next token at one or several positions: the most likely tokens, and all others together.
    >>> distributions([(" be", 5, 0.75), (" go", 7, 0.125)], titles=["To"]).axes[0].get_title("left")
    'To'

    Args:
        places: for each position its tokens as (text, id, probability), the most likely first.
        titles: of each position, such as the text before it.
        dark: for a dark page.

    Raises:
        UserError: there are no positions, more titles than positions, or matplotlib is not installed.
    """
    if not places or len(titles) > len(places):
        raise UserError(f"{len(places)} places and {len(titles)} titles: give one place at least, and no more titles")
    look = DARK if dark else LIGHT
    most, n_columns = max(map(len, places)), min(3, len(places))
    n_rows = -(-len(places) // n_columns)
    figure = new_figure(1 + 3.4 * n_columns, n_rows * (1.2 + 0.24 * (most + 1)), look)
    grid = [*figure.subplots(n_rows, n_columns, squeeze=False).flat]
    for axes, likeliest, title in zip(grid, places, [*titles, *[""] * len(places)], strict=False):
        rest = max(0.0, 1 - sum(probability for *_, probability in likeliest))
        labels = [*(label_of(text) if text else f"token {i}" for text, i, _ in likeliest), "all others"]
        shares = [*(probability for *_, probability in likeliest), rest]
        bars = plain_axes(axes, look).barh(range(len(shares)), shares, color=look.lines[0])
        bars[-1].set(facecolor="none", edgecolor=look.lines[0], hatch="////")
        axes.bar_label(bars, [f"{share:.3f}" for share in shares], padding=3, color=look.ink, fontsize=8)
        axes.set_yticks(range(len(labels)), labels)
        axes.set(xlim=(0, 1.15), ylim=(most + 0.5, -0.5), xlabel="probability", ylabel="next token")
        axes.set_title(legible(title)[-_LONGEST_TITLE:], loc="left", fontsize=9)
    for axes in grid[len(places) :]:
        axes.set_visible(False)
    return finished(figure, look)


def curves(*runs: str | Path, dark: bool = False) -> "Figure":
    """Learning curves of runs by update: loss, other validation metrics, and the learning rate.
    >>> written = Path("metrics.jsonl").write_text('{"kind": "valid", "step": 5, "loss": 2.5}' + chr(10))
    >>> curves(".").axes[0].get_ylabel()
    'loss (nats per token)'

    Args:
        runs: folders.
        dark: for a dark page.

    Raises:
        UserError: none of them has metrics, a file is damaged, or matplotlib is not installed.
    """
    records = {str(run): read_metrics(Path(run)) for run in runs}
    if not any(records.values()):
        raise UserError(f"{', '.join(records) or 'no run'}: no figures in metrics.jsonl yet")
    found = dict.fromkeys(name for rows in records.values() for row in rows if row["kind"] == "valid" for name in row)
    measured = [name for name in found if name not in ("kind", "step", "loss", "perplexity")]
    panels = ["loss", *measured, "lr"]
    look, n_columns = DARK if dark else LIGHT, min(3, len(panels))
    n_rows = -(-len(panels) // n_columns)
    figure = new_figure(4.2 * n_columns, 3.2 * n_rows + 0.3 * len(records), look)
    grid = [*figure.subplots(n_rows, n_columns, squeeze=False).flat]
    for axes, name in zip(grid, panels, strict=False):
        _draw_curves(plain_axes(axes, look), records, name, look)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", frameon=False, labelcolor=look.ink, fontsize=9)
    return finished(figure, look)


def _draw_curves(axes: "Axes", records: Mapping[str, list[dict[str, Any]]], name: str, look: Look) -> None:
    """One metric of all runs: training as a line, validation with marks."""
    colours = colours_of(len(records), look)
    for i, (run, rows) in enumerate(records.items()):
        for kind in ("train", "valid"):
            key = "nll" if (kind, name) == ("train", "loss") and any("nll" in row for row in rows) else name
            points = [(row["step"], row[key]) for row in rows if row["kind"] == kind and _is_number(row.get(key))]
            how: dict[str, Any] = {"marker": _MARKERS[i % len(_MARKERS)], "markersize": 5, "linewidth": 1.6}
            how = how if kind == "valid" else {"linewidth": 1.0, "alpha": 0.8}
            label = f"{legible(run)}: {'training' if kind == 'train' else 'validation'}"
            if points or name == "loss":
                axes.plot(*(zip(*points, strict=True) if points else ([], [])), color=colours[i], label=label, **how)
    axes.set(xlabel="update", ylabel=_UNITS.get(name, legible(name.replace("_", " "))))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
