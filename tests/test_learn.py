"""The chapters of docs/learn run from top to bottom, and their exercises cannot be solved by their stubs."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "docs" / "learn").glob("[0-9]_*.md"))
CELL = re.compile(r"^```python(?: tags=\[\"(?P<tag>\w+)\"\])?\n(?P<code>.*?)^```$", re.M | re.S)
DEFINED = re.compile(r"^def (\w+)", re.M)


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


def execute(cell: Cell, chapter: Path, names: dict[str, Any]) -> None:
    code = compile("\n" * cell.line + cell.code, str(chapter), "exec")  # errors name the page's lines
    exec(code, names)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_and_its_exercises_are_no_formality(
    chapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
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


def test_chapters_use_the_classes_of_the_package() -> None:
    """What a chapter defines itself, the package does not have."""
    ours = set[str]()
    for path in (ROOT / "transformer_zoo").rglob("*.py"):
        ours.update(re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.M))
    for chapter in CHAPTERS:
        defined = {name for cell in cells(chapter) for name in re.findall(r"^class (\w+)", cell.code, re.M)}
        assert not defined & ours, chapter.name
