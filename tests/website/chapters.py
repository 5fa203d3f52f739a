"""The chapters of docs/learn as pages: run as notebooks, with what their cells print and draw below each."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from transformer_zoo.errors import UserError

MOST_SECONDS = 600  # of one cell, where others keep the cores busy; a chapter alone takes less than 120
# Figures of matplotlib are drawn without pyplot, and shown by this alone.
SHOW_FIGURES = "%matplotlib inline\n%config InlineBackend.figure_formats = ['svg']"
HEADING = re.compile(r"^#+ (.+)$", re.M)


def page(chapter: Path, out: Path, *, execute: bool = True) -> None:
    """Write a chapter as a page of Markdown, and its pictures beside it."""
    notebook = jupytext.read(chapter)
    if execute:
        run(notebook, chapter)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n\n".join(parts(notebook, out)) + "\n", encoding="utf-8")


def run(notebook: NotebookNode, chapter: Path) -> None:
    """Run all cells in an empty folder; their outputs are in them afterwards."""
    notebook.cells.insert(0, new_code_cell(SHOW_FIGURES))
    with TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        try:
            NotebookClient(notebook, timeout=MOST_SECONDS, kernel_name="python3", resources=where).execute()
        except CellExecutionError as error:
            raise UserError(f"{chapter}: a cell failed\n{error}") from None
    del notebook.cells[0]


def parts(notebook: NotebookNode, out: Path) -> Iterator[str]:
    """The cells in their order, as Markdown."""
    heading, n_pictures = out.stem, 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (HEADING.findall(cell.source) or [heading])[-1]
            yield cell.source.replace("<details>", '<details markdown="1">')
            continue
        yield f"```python\n{cell.source}\n```"
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            if "image/svg+xml" in shown:
                n_pictures += 1
                picture = out.with_name(f"{out.stem}_{n_pictures}.svg")
                picture.write_text(shown["image/svg+xml"], encoding="utf-8")
                yield f"![{heading}: the picture that this code draws]({picture.name})"
            elif output.get("name") == "stderr":
                raise UserError(f"{out.stem}: a cell wrote on standard error: {output['text']}")
            elif text := output.get("text") or shown.get("text/plain"):
                yield f'```text title="Output"\n{text.rstrip()}\n```'
