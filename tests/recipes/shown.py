"""What a page shows of what a benchmark or a run wrote."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any


def shown(part: str, found: Mapping[str, Any], folder: Path) -> str:
    """The page in an empty repository, whose charts are written too."""
    results = import_module("recipes.benchmarks.results")
    page = folder / "docs" / "page.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(f"# Page\n\n<!-- results {part} -->\n<!-- end of results -->\n", "utf-8")
    results.keep(folder, part, [found], "python it.py", "A Machine", "abc1234")
    results.write_all(folder)
    text = page.read_text("utf-8")
    assert "A Machine" in text
    assert "abc1234" in text
    assert "`python it.py`" in text
    chart = folder / "docs" / "pictures" / f"results_{part}_a-machine.svg"
    assert chart.exists() == (results.PARTS[part].chart is not None)
    assert (f"](pictures/{chart.name})" in text) == chart.exists()
    return text
