"""Pictures show what they are given, with names and units, as it is written; and share nothing with other pictures."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

import transformer_zoo as tz
from transformer_zoo.pictures import alignment, attention, curves, distributions, positions
from transformer_zoo.runs import AttentionMaps, PositionsTable, positions_table

OKABE_ITO = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
Pictures = dict[str, Callable[..., Any]]
ODD = ["$\\frac{a}{b}$", " $", "<b>", "\n", "\t", "語", "😀", "\x1b[31m", "\u202e", "", "w" * 99]


def maps_of(pieces: list[str], *, layers: int = 2, heads: int = 3) -> AttentionMaps:
    """Weights of a translation of some pieces to the same."""
    n = len(pieces)

    def weights() -> list[torch.Tensor]:
        return [torch.rand(heads, n, n).softmax(-1) for _ in range(layers)]

    return AttentionMaps(pieces, pieces, pieces, "", {"encoder": weights(), "decoder": weights(), "cross": weights()})


def metrics(folder: Path) -> Path:
    folder.mkdir()
    rows = [f'{{"kind": "train", "step": {i}, "loss": {9 / i}, "lr": 0.1}}\n' for i in (1, 2, 3)]
    rows += ['{"kind": "valid", "step": 3, "loss": 2.0, "perplexity": 7.4, "bleu": 30.5}\n']
    (folder / "metrics.jsonl").write_text("".join(rows), "utf-8")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """One of each, with texts that are not easy to draw."""
    maps, run = maps_of(ODD), metrics(tmp_path / "$x$ <b> 語")
    waves = positions_table(tz.create_model("transformer-tiny", d_model=16, n_heads=2))[0]
    slopes = PositionsTable("scores", [0, 1, 2], "head", torch.rand(3, 16))
    return {
        "attention": lambda **how: attention(maps, **how),
        "one head": lambda **how: attention(maps, "cross", layer=2, head=3, **how),
        "alignment": lambda **how: alignment(maps.source, maps.written, maps.alignment, **how),
        "positions": lambda **how: positions(waves, **how),
        "slopes": lambda **how: positions(slopes, **how),
        "distributions": lambda **how: distributions(
            [(piece, i, 0.05) for i, piece in enumerate(ODD)], [("a", 1, 1.0)], titles=["$x$", "語"], **how
        ),
        "curves": lambda **how: curves(run, **how),
    }


NAMES = ["attention", "one head", "alignment", "positions", "slopes", "distributions", "curves"]


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = np.array(to_rgb(colour))
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_picture_can_be_read(name: str, dark: bool, pictures: Pictures, tmp_path: Path) -> None:
    figure = pictures[name](dark=dark)
    figure.savefig(tmp_path / "picture.png", dpi=40)  # a letter without a font would warn
    figure.savefig(tmp_path / "picture.svg")
    paper = to_hex(figure.get_facecolor())
    assert contrast(paper, "#000000" if dark else "#ffffff") < 1.5
    for axes in figure.axes:
        if axes.get_visible():
            assert axes.get_xlabel() or axes.get_ylabel()
            assert contrast(to_hex(axes.get_facecolor()), paper) < 1.01 or axes.get_label() == "<colorbar>"
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert not any(text.get_parse_math() or text.get_usetex() for text in texts if "$" in text.get_text())
    assert min(contrast(to_hex(text.get_color()), paper) for text in texts) >= 7
    lines = {to_hex(line.get_color()) for axes in figure.axes for line in axes.get_lines()}
    assert name in ("slopes", "alignment", "attention") or lines <= OKABE_ITO
    images = [image for axes in figure.axes for image in axes.get_images()]
    assert {image.get_cmap().name for image in images} <= {"cividis"}


def test_texts_are_as_they_are(pictures: Pictures) -> None:
    labels = [label.get_text() for label in pictures["alignment"]().axes[0].get_yticklabels()]
    assert labels[:5] == ["$\\frac{a}{b}$", "▁$", "<b>", "⏎", "⇥"]
    assert labels[7:10] == ["\\x1b[31m", "\\u202e", ""]
    assert labels[10] == "w" * 23 + "…"


def test_every_weight_has_its_place() -> None:
    maps = maps_of(["a", "b", "c", "d"], layers=2, heads=3)
    figure = attention(maps, "decoder")
    shown = np.ma.filled(figure.axes[0].get_images()[0].get_array(), np.nan)
    assert shown.shape == (2 * 5 - 1, 3 * 5 - 1)
    for layer, heads in enumerate(maps.weights["decoder"]):
        for head, weights in enumerate(heads):
            np.testing.assert_array_equal(shown[layer * 5 :, head * 5 :][:4, :4], weights.numpy())
    assert np.isnan(shown[4]).all()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["a", "b", "c", "d"] * 3
    one = attention(maps, "cross", layer=2, head=1).axes[0].get_images()[0].get_array()
    np.testing.assert_array_equal(np.asarray(one), maps.weights["cross"][1][0].numpy())


def test_the_alignment_comes_first_and_marks_what_is_looked_at_most() -> None:
    maps = maps_of(["a", "b", "c"])
    first = attention(maps).axes[0]
    np.testing.assert_array_equal(np.asarray(first.get_images()[0].get_array()), maps.alignment.numpy())
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in first.get_lines()]
    assert dots == [(int(column), row) for row, column in enumerate(maps.alignment.argmax(-1))]


@pytest.mark.parametrize(("layers", "heads", "n"), [(1, 1, 1), (1, 1, 3), (2, 16, 30), (3, 2, 200), (12, 12, 60)])
def test_any_number_of_heads_fits(layers: int, heads: int, n: int) -> None:
    figure = attention(maps_of(["piece"] * n, layers=layers, heads=heads), "encoder")
    assert max(figure.get_size_inches()) < 60
    labels = figure.axes[0].get_yticklabels()
    assert all(label.get_fontsize() >= 4.5 for label in labels)
    assert bool(labels) == (layers * n < 600 and heads * n < 600)


def test_layers_with_fewer_heads_leave_room() -> None:
    weights = [torch.ones(heads, 2, 2) / 2 for heads in (1, 3)]
    figure = attention(AttentionMaps([], ["a", "b"], [], "", {"decoder": weights}))
    shown = np.ma.filled(figure.axes[0].get_images()[0].get_array(), np.nan)
    assert np.isnan(shown[0]).tolist() == [False] * 2 + [True] * 6


def test_bars_and_curves_are_the_figures(tmp_path: Path) -> None:
    figure = distributions([("a", 1, 0.5), ("", 7, 0.25)], titles=["before"])
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.5, 0.25, 0.25]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "token 7", "all others"]
    loss, bleu, rate = curves(metrics(tmp_path / "run")).axes
    assert [axes.get_ylabel() for axes in (loss, bleu, rate)] == [
        "loss (nats per token)", "BLEU (0 to 100)", "learning rate"
    ]  # fmt: skip
    assert [line.get_xydata().tolist() for line in loss.get_lines()] == [[[1, 9], [2, 4.5], [3, 3]], [[3, 2]]]
    assert bleu.get_lines()[0].get_xydata().tolist() == [[3, 30.5]]


def test_many_runs_are_told_apart(tmp_path: Path) -> None:
    runs = [metrics(tmp_path / f"run{i}") for i in range(9)]
    lines = [line for line in curves(*runs).axes[0].get_lines() if line.get_marker() != "None"]
    assert len({to_hex(line.get_color()) for line in lines}) == 9


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: attention(maps_of(["a"]), "none"), "no attention of kind 'none': there is encoder, decoder, cross"),
        (lambda: attention(maps_of(["a"]), layer=3), "layer 3: there are 2, from 1"),
        (lambda: attention(maps_of(["a"]), layer=0), "layer 0: there are 2, from 1"),
        (lambda: attention(maps_of(["a"]), head=4), "head 4: there are 3, from 1"),
        (lambda: alignment(["a"], ["b", "c"], torch.eye(1)), r"weights are \(1, 1\), expected \(2, 1\)"),
        (lambda: distributions(), "0 places"),
        (lambda: distributions([], titles=["a", "b"]), "1 places and 2 titles"),
        (lambda: curves(), "no run: no figures"),
        (lambda: curves("none"), "none: no figures in metrics.jsonl yet"),
    ],
)
def test_what_cannot_be_drawn(draw: Callable[[], Any], message: str) -> None:
    with pytest.raises(tz.UserError, match=message):
        draw()


@pytest.mark.parametrize("name", NAMES)
def test_without_matplotlib_it_is_one_line(name: str, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(tz.UserError, match=r"^pictures need matplotlib: pip install 'transformer-zoo\[pictures\]'$"):
        pictures[name]()


def test_nothing_is_shared_and_nothing_is_loaded_before_it_is_used(root: Path, tmp_path: Path) -> None:
    code = """
import sys, torch, transformer_zoo as tz
tz.pictures.alignment
assert "matplotlib" not in sys.modules
import matplotlib
names = [name for name in matplotlib.rcParams if name != "backend"]  # asking for that loads pyplot
before = [matplotlib.rcParams[name] for name in names]
tz.pictures.alignment(["a"], ["b"], torch.eye(1)).savefig(sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
assert [matplotlib.rcParams[name] for name in names] == before
"""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], env=environment, check=True)
