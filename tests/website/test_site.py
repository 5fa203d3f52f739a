"""The site is built from docs/ and walked."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.test_docs import TASKS
from tests.test_examples import exported
from transformer_zoo.errors import UserError

from . import build as building
from .build import build, configuration
from .chapters import page as chapter_page
from .formulas import drawn
from .reference import DOORS, described, read_package
from .sources import ROOT, Sources
from .walk import Site, faults

FAR = 2  # links from the first page to the page of a task, at most


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """All of it except for what chapters print. That links hold and nothing is complained of, building says."""
    return Site(build(tmp_path_factory.mktemp("built") / "docs", execute=False))


@pytest.mark.slow
def test_the_whole_site_is_built(tmp_path: Path) -> None:
    built = Site(build(tmp_path / "docs"))
    for chapter in (ROOT / "docs" / "learn").glob("[0-9]_*.md"):
        page = built.folder / "learn" / f"{chapter.stem}.html"
        assert 'class="language-text highlight"' in page.read_text(encoding="utf-8"), f"{chapter.name} prints nothing"


def test_tasks_are_near_the_first_page(site: Site) -> None:
    steps = site.steps()
    far = {task: steps.get(page.replace(".md", ".html"), 99) for task, page in TASKS.items()}
    assert {task: n for task, n in far.items() if n > FAR} == {}


def test_every_public_name_has_its_place(site: Site) -> None:
    for room in DOORS:
        page = site.pages[site.folder / "reference" / f"{room.rpartition('.')[2]}.html"]
        text = page.path.read_text(encoding="utf-8")
        missing = [name for name in exported(room) if f".{name}" not in " ".join([*page.ids, *page.links])]
        assert not missing, f"{room}: {missing}"
        assert "&gt;&gt;&gt;" in text or "gp" in text


def test_a_name_without_a_docstring_is_seen() -> None:
    package = read_package()
    assert described(package, "transformer_zoo.models", "AnyModel")
    package["models.family.AnyModel"].docstring = None
    assert not described(package, "transformer_zoo.models", "AnyModel")


def test_pages_have_what_was_written(site: Site) -> None:
    """Markdown that only another program understands is left as it is."""
    for path, page in site.pages.items():
        assert page.ids, path
    text = (site.folder / "learn" / "2_attention.html").read_text(encoding="utf-8")
    assert "$$" not in text
    assert 'class="formula"' in text


def test_without_an_address_no_button_needs_one(site: Site) -> None:
    for path in site.pages:
        text = path.read_text(encoding="utf-8")
        assert 'rel="edit"' not in text
        assert 'class="md-source"' not in text


def test_the_address_is_that_of_pyproject() -> None:
    packages: list[str] = []
    assert "repo_url" not in configuration({}, packages)
    address = "https://example.org/somebody/transformer-zoo"
    assert configuration({"urls": {"Source": address}}, packages)["repo_url"] == address


def test_links_out_of_the_pages_lead_to_pages_of_the_code(tmp_path: Path) -> None:
    sources = Sources(tmp_path)
    page, origin = tmp_path / "learn" / "page.md", ROOT / "docs" / "learn" / "page.md"
    text = (
        "[a](../blocks.md) [b](../../transformer_zoo/blocks/masks.py#L7) [c](../../transformer_zoo/kernels) [d](x.md)"
    )
    text += " [e](../../transformer_zoo/errors.py#:~:text=def%20run%5Fprogram)"
    lines = (ROOT / "transformer_zoo" / "errors.py").read_text(encoding="utf-8").splitlines()
    line = next(number for number, line in enumerate(lines, 1) if line.startswith("def run_program"))
    wanted = (
        "[a](../blocks.md) [b](../source/transformer_zoo/blocks/masks.py.md#__span-0-7)"
        " [c](../source/transformer_zoo/kernels/index.md) [d](x.md)"
        f" [e](../source/transformer_zoo/errors.py.md#__span-0-{line})"
    )
    assert sources.led_here(text, page, origin) == wanted
    sources.write()
    assert "def causal_mask" in (tmp_path / "source" / "transformer_zoo" / "blocks" / "masks.py.md").read_text("utf-8")
    assert (tmp_path / "source" / "transformer_zoo" / "kernels" / "dot_product.py.md").exists()


def test_what_a_chapter_prints_and_draws_is_on_its_page(tmp_path: Path) -> None:
    chapter = tmp_path / "1_small.md"
    chapter.write_text(
        "# Small\n\n```python\nprint(6 * 7)\n```\n\n## A line\n\n```python\nfrom matplotlib.figure import Figure\n\n"
        "figure = Figure()\nfigure.add_subplot().plot([1, 2])\nfigure\n```\n",
        encoding="utf-8",
    )
    out = tmp_path / "out" / "1_small.md"
    chapter_page(chapter, out)
    text = out.read_text(encoding="utf-8")
    assert '```text title="Output"\n42\n```' in text
    assert "![A line: the picture that this code draws](1_small_1.svg)" in text
    assert "<svg" in (tmp_path / "out" / "1_small_1.svg").read_text(encoding="utf-8")
    chapter.write_text("```python\n1 / 0\n```\n", encoding="utf-8")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        chapter_page(chapter, out)


def test_a_formula_is_a_drawing() -> None:
    page = "a $5 and $$ sign\n\n$$\\frac{a}{\\sqrt{d}}$$\n"
    text = drawn(page)
    assert text.startswith("a $5 and $$ sign\n\n<div")
    assert 'aria-label="\\frac{a}{\\sqrt{d}}"' in text
    assert "<svg" in text


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="no.html">', "no.html leads nowhere"),
        ('<a href="index.html#no">', "index.html#no leads to no place of that page"),
        ('<a href="#no">', "#no leads to no place of that page"),
        ('<img src="no.png">', "no.png leads nowhere"),
        ('<script src="https://example.org/x.js"></script>', "loads https://example.org/x.js"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "loads //example.org/x.css"),
        ('<pre class="mermaid">', "loads https://mermaid"),
    ],
)
def test_a_wrong_page_is_noticed(page: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(f'<h1 id="here">{page}', encoding="utf-8")
    assert faults(tmp_path) == [f"index.html: {fault}"]


def test_a_right_page_passes(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<h1 id="here"><a href="#here"><a href="."><a href="https://example.org">', encoding="utf-8"
    )
    assert faults(tmp_path) == []


def test_a_style_that_loads_from_elsewhere_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("body { background: url(https://example.org/a.png) }", encoding="utf-8")
    [fault] = faults(tmp_path)
    assert "https://example.org/a.png" in fault


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pages, to be changed."""
    monkeypatch.setattr(building, "DOCS", shutil.copytree(ROOT / "docs", tmp_path / "docs"))
    return tmp_path / "docs"


def test_a_page_that_no_navigation_has_is_refused(copied: Path) -> None:
    configuration({}, [])
    (copied / "new.md").write_text("# New\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"docs/new\.md: not in the navigation"):
        configuration({}, [])
    (copied / "new.md").unlink()
    (copied / "zoo.md").unlink()
    with pytest.raises(UserError, match=r"there is no page zoo\.md"):
        configuration({}, [])


def test_what_zensical_complains_of_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.md").write_text("# A page\n\n[wrong](no.md)\n", encoding="utf-8")
    config = {"site_name": "a", "docs_dir": "pages", "site_dir": "site", "theme": {"font": False}}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert any("no.md" in line for line in building.zensical(tmp_path / "mkdocs.yml"))
