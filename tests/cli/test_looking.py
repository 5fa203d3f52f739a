"""`transformer-zoo attention` and `neighbours`: what the page shows is what the model has, and texts stay texts."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import transformer_zoo as tz
from transformer_zoo.cli import main
from transformer_zoo.cli.html import colours_of, palette
from transformer_zoo.runs import Run, TextRun, attention_maps, save_run
from transformer_zoo.tokenizers import ByteTokenizer, TranslationTokenizer, TranslationTokenizerSettings

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7 * 7 }}"
SIZES = {"d_model": 16, "n_heads": 2, "d_ff": 24, "max_seq_len": 200}


class Page(HTMLParser):
    """What is on a page: its words, its tags, their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.tags, self.attributes = "", list[str](), list[tuple[str, str]]()
        self.pictures: list[Tensor] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words += data


def check_alone(text: str) -> Page:
    """Nothing on the page runs, or comes from elsewhere."""
    page = Page(text)
    assert not {"script", "iframe", "object", "embed", "form", "link", "base"} & {*page.tags}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    addresses = [value for name, value in page.attributes if name in ("src", "href", "srcset")]
    assert all(value.startswith(("#", "data:image/")) for value in addresses)
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", re.sub(r"data:[\w/+]+;base64,[\w+/=]+", "", text))
    return page


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(3)
    pair = TranslationTokenizer.train(["ja"], ["yes"], TranslationTokenizerSettings(kind="bytes"))
    sizes = {**SIZES, "n_encoder_layers": 2, "n_decoder_layers": 3, "vocab_size": 261}
    translator = Run(tz.create_model("transformer-tiny", **sizes), pair, recipe={}, max_source_tokens=100)
    save_run(translator, folder / "de-en", recipe={"test": {"beam": 1, "max_extra": 5}})
    writer = TextRun(tz.create_model("gpt-nano", vocab_size=257, eos_id=256, **SIZES), ByteTokenizer(), recipe={})
    save_run(writer, folder / "gpt", recipe={})
    save_run(writer, folder / "<b>&run", recipe={})
    return folder


def test_a_page_of_a_translation(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["attention", str(runs / "de-en"), "ja", "--target", "yes", "--output", str(out)]) == 0
    assert f"{out}: 2 layers of encoder, 3 layers of decoder, 3 layers of cross" in capsys.readouterr().out
    text = out.read_text("utf-8")
    page, maps = check_alone(text), attention_maps(tz.load_run(runs / "de-en"), "ja", "yes")
    wanted = [head for layers in maps.weights.values() for heads in layers for head in heads]
    found = [value for name, value in page.attributes if name == "src"]
    assert len(found) == len(wanted) == 2 * (2 + 3 + 3)
    for address, weights in zip(found, wanted, strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2]))).convert("RGB")
        levels = (255 * weights.numpy()).round().astype(int)
        np.testing.assert_array_equal(np.asarray(image), palette()[levels])
    titles = [value for name, value in page.attributes if name == "title"]
    assert titles == [f"{weight:.3f}" for row in maps.alignment.tolist() for weight in row]
    assert "the given translation" in page.words


def test_a_translation_is_made(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["attention", str(runs / "de-en"), "ja", "--output", str(out)]) == 0
    assert capsys.readouterr().out.startswith("translation: ")
    assert "its own translation" in out.read_text("utf-8")


@pytest.mark.parametrize("run", ["gpt", "de-en", "<b>&run"])
def test_texts_stay_texts(runs: Path, run: str, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    target = [] if "de" not in run else ["--target", HOSTILE]
    assert main(["attention", str(runs / run), HOSTILE, *target, "--output", str(out)]) == 0
    page = check_alone(out.read_text("utf-8"))
    assert page.words.count(HOSTILE) == 1 + len(target) // 2 + 1  # and in the title
    assert run in page.words


@pytest.mark.parametrize("end", [".png", ".svg", ".pdf"])
def test_a_picture(runs: Path, end: str, tmp_path: Path) -> None:
    out = tmp_path / f"heads{end}"
    assert main(["attention", str(runs / "gpt"), "a $x$ <b>", "--output", str(out), "--dark"]) == 0
    assert out.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["{runs}/gpt", "a", "--output", "a.gif"], 2, "must end in .html or .png or .svg or .pdf"),
        (["{runs}/gpt", "a", "--output", "none/a.html"], 1, "none/a.html is a folder, or in one that is not there"),
        (["{runs}/none", "a"], 1, "no such run folder"),
        (["{runs}/gpt", "a" * 300], 1, "300 tokens, and the model takes 200"),
        (["{runs}/gpt", "a", "--target", "b"], 1, "a target is for a translation"),
        (["{runs}/gpt", "a", "--target-lang", "de"], 1, "does not translate"),
        (["{runs}/gpt", "\udcff"], 1, "not valid Unicode"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    words: list[str],
    status: int,
    said: str,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["attention", *(word.format(runs=runs) for word in words)]) == status
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert not [*tmp_path.iterdir()]


def test_without_matplotlib_a_picture_is_refused_at_once(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert main(["attention", str(runs / "none"), "a", "--output", str(tmp_path / "a.png")]) == 1
    assert capsys.readouterr().err == "error: pictures need matplotlib: pip install 'transformer-zoo[pictures]'\n"
    assert main(["attention", str(runs / "gpt"), "a", "--output", str(tmp_path / "a.html")]) == 0


def test_the_colours_are_cividis_and_letters_can_be_read() -> None:
    theirs = matplotlib.colormaps["cividis"](np.arange(256))[:, :3]
    assert np.abs(palette() / 255 - theirs).max() < 0.05
    for i in range(256):
        paper, ink = colours_of(i / 255)
        light, dark = sorted((luminance(paper), luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(colour: str) -> float:
    whole = colour.removeprefix("#")
    parts = np.array([*bytes.fromhex(whole if len(whole) == 6 else "".join(c * 2 for c in whole))]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_words_near_each_other(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["neighbours", str(runs / "gpt"), "k", "--minus", "m", "--plus", "w", "--n", "4"]
    assert main(words) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["word", "cosine"]
    assert len(rows) == 4
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [f"{one['word']} {one['similarity']:.4f}" for one in found] == [" ".join(row.split()) for row in rows]
    assert main(["neighbours", str(runs / "gpt"), "Hi"]) == 0
    assert capsys.readouterr().err == "Hi: the mean of its 2 pieces, H | i\n"
    assert main(["neighbours", str(runs / "gpt"), "k", "--minus", "k"]) == 1
    assert capsys.readouterr().err == (
        "error: the words cancel each other out, and nothing is left to look for: give others\n"
    )
