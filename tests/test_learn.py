"""The chapters of docs/learn run from top to bottom, and their exercises cannot be solved by their stubs."""

import re
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "docs" / "learn").glob("[0-9]_*.md"))
CELL = re.compile(r"^```python(?: tags=\[\"(?P<tag>\w+)\"\])?\n(?P<code>.*?)^```$", re.M | re.S)
DEFINED = re.compile(r"^def (\w+)", re.M)
MOST_SECONDS = 120  # of one core, for a chapter


class Cell(NamedTuple):
    tag: str
    code: str
    line: int


def cells(chapter: Path) -> list[Cell]:
    """The code of a chapter, in its order."""
    text = chapter.read_text(encoding="utf-8")
    return [
        Cell(found["tag"] or "", found["code"], text[: found.start("code")].count("\n"))
        for found in CELL.finditer(text)
    ]


PREPARED = [  # what chapters read where somebody has prepared it
    (chapter, name)
    for chapter in CHAPTERS
    for name in ("tinyshakespeare", "books")
    if any(re.search(rf"[\"/]{name}[\"/]", cell.code) for cell in cells(chapter))
]


def execute(cell: Cell, chapter: Path, names: dict[str, Any]) -> None:
    code = compile("\n" * cell.line + cell.code, str(chapter), "exec")  # errors name the page's lines
    exec(code, names)


def walk(chapter: Path) -> None:
    """Run a chapter; its stubs fail what their solutions pass."""
    names = dict[str, Any]()
    stubs = dict[str, Any]()
    for cell in cells(chapter):
        execute(cell, chapter, names)
        if cell.tag == "stub":
            [name] = DEFINED.findall(cell.code)
            stubs[name] = names[name]
        elif cell.tag == "solution":
            name = DEFINED.findall(cell.code)[-1]
            assert names[name] is not stubs[name]
            with pytest.raises(AssertionError):
                names[f"check_{name}"](stubs.pop(name))
    assert not stubs, "exercises without a solution"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_and_its_exercises_are_no_formality(
    chapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    began = process_time()
    walk(chapter)
    assert process_time() - began < MOST_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize(("chapter", "name"), PREPARED, ids=lambda value: getattr(value, "stem", value))
def test_a_chapter_reads_what_was_prepared(
    chapter: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = ROOT / "data" / name
    if not (prepared / "train.txt").exists():
        pytest.skip(f"no {name} in data/: transformer-zoo prepare {name}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to(prepared)
    monkeypatch.chdir(tmp_path)
    walk(chapter)
    assert f"from data/{name}/train.txt" in capsys.readouterr().out


def test_chapters_use_the_classes_of_the_package() -> None:
    """What a chapter defines itself, the package does not have."""
    ours = set[str]()
    for path in (ROOT / "transformer_zoo").rglob("*.py"):
        ours.update(re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.M))
    for chapter in CHAPTERS:
        defined = {name for cell in cells(chapter) for name in re.findall(r"^class (\w+)", cell.code, re.M)}
        assert not defined & ours, chapter.name
