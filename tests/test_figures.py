"""Figures 1 and 2 of the paper beside the code: as they are drawn now, with links that lead to the line they name."""

import importlib.util
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urldefrag
from xml.etree import ElementTree

import pytest

from tests.test_pictures import OKABE_ITO, contrast

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ("figure_1", "figure_2")


@pytest.fixture(scope="module")
def figures(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", root / "docs" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def svg(root: Path, name: str) -> ElementTree.Element:
    return ElementTree.parse(root / "docs" / "pictures" / f"{name}.svg").getroot()


def links(root: Path) -> Iterator[tuple[Path, str]]:
    """The page or picture of each link, and where it leads."""
    for name in NAMES:
        path = root / "docs" / "pictures" / f"{name}.svg"
        yield from ((path, link.attrib["href"]) for link in svg(root, name).iter(f"{SVG}a"))
    page = root / "docs" / "blocks.md"
    yield from ((page, link) for link in re.findall(r"\]\((\S+#:~:text=\S+)\)", page.read_text("utf-8")))


def fault(page: Path, link: str) -> str:
    """What is wrong with it, or nothing."""
    path, fragment = urldefrag(link)
    target, text = page.parent / path, unquote(fragment.removeprefix(":~:text="))
    if not target.is_file():
        return f"{link}: there is no such file"
    first = next((line.strip() for line in target.read_text("utf-8").splitlines() if text in line), None)
    return (
        "" if text and first is not None and first.startswith(text) else f"{link}: the file's first {text!r}: {first}"
    )


def test_every_link_leads_to_its_line(root: Path) -> None:
    found = list(links(root))
    assert len(found) > 60
    assert [text for page, link in found if (text := fault(page, link))] == []


@pytest.mark.parametrize(
    "link", ["none.py#:~:text=x", "test_figures.py#:~:text=no%20such%20line%21", "test_figures.py"]
)
def test_a_link_that_is_off_is_seen(link: str) -> None:
    assert fault(Path(__file__), link)


def test_they_are_as_they_would_be_drawn_now(figures: ModuleType, root: Path) -> None:
    for name in NAMES:
        kept = (root / "docs" / "pictures" / f"{name}.svg").read_text("utf-8")
        assert kept == figures.drawn(figures.FIGURES[name]()), "run: python docs/figures.py"
    page = (root / "docs" / "blocks.md").read_text("utf-8")
    assert page == figures.with_tables(page), "run: python docs/figures.py"


def test_a_line_that_is_gone_is_named(figures: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"blocks/norm.py: no line begins with .class BatchNorm."):
        figures.address(figures.Place("blocks/norm.py", "class BatchNorm"), "..")
    with pytest.raises(ValueError, match="no line begins with 'LayerNorm'"):  # the first line that has it
        figures.address(figures.Place("blocks/norm.py", "LayerNorm"), "..")


def test_each_box_names_what_it_leads_to(figures: ModuleType) -> None:
    for figure in figures.FIGURES.values():
        for box in figure().boxes:
            last = box.name.split(".")[-1]
            assert last in box.place.code or last in ("transpose, flatten",), box


def test_they_can_be_read_on_light_and_on_dark(figures: ModuleType) -> None:
    for paper, ink in ((figures.PAPER, figures.INK), (figures.DARK_PAPER, figures.DARK_INK)):
        assert contrast(paper, ink) >= 4.5
        assert f"fill: {paper}" in figures.STYLE
        assert f"stroke: {ink}" in figures.STYLE
    assert "prefers-color-scheme: dark" in figures.STYLE
    for figure in figures.FIGURES.values():
        for box in figure().boxes:
            assert box.fill in OKABE_ITO
            assert contrast(figures.ON_BOX, box.fill) >= 4.5


@pytest.mark.parametrize("name", NAMES)
def test_all_words_have_room(name: str, figures: ModuleType) -> None:
    figure = figures.FIGURES[name]()
    for box in figure.boxes:
        assert max(len(box.words) * 7.0, len(box.name) * 7.3) < box.width, box
        assert 0 <= box.x - box.width / 2 < box.x + box.width / 2 <= figure.size[0]
        assert 0 <= box.y < box.y + box.height <= figure.size[1]
    for words in figure.words:
        width = len(words.words) * 7.3
        left = words.x - (width / 2 if words.anchor == "middle" else 0)
        assert 0 <= left < left + width <= figure.size[0], words
        assert 10 <= words.y <= figure.size[1] - 4, words
    boxes = sorted(figure.boxes, key=lambda box: (box.x, box.y))
    for one, other in pairwise(boxes):
        assert one.x != other.x or one.y + one.height <= other.y, (one, other)
