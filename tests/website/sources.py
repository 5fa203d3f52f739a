"""Links that lead out of docs/, into the code: each of its files has a page on the site, so none needs an address."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from transformer_zoo.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = {".py": "python", ".yaml": "yaml", ".md": "markdown", ".toml": "toml", ".cff": "yaml"}
LINK = re.compile(r"(?P<before>\]\(|<a href=\")(?P<target>\.\./[^)#\"\s]+)(?:#(?P<place>[^)\"\s]*))?")
TEXT = ":~:text="  # of a link to the first place where a text stands
UNSEARCHED = "---\nsearch: {exclude: true}\ngenerated: true\n---\n\n"


class Sources:
    """The pages of files, in a folder beside the pages of docs/; those that somebody asked for."""

    def __init__(self, pages: Path) -> None:
        self.pages, self.asked = pages, dict[Path, Path]()

    def page_of(self, path: Path) -> Path:
        """The page of a file or a folder of the repository."""
        name = path.relative_to(ROOT)
        self.asked[path] = self.pages / "source" / (name / "index.md" if path.is_dir() else f"{name}.md")
        return self.asked[path]

    def link(self, page: Path, path: Path, line: int | None = None) -> str:
        """From a page of the site to that of a file, at a line of it."""
        target = os.path.relpath(self.page_of(path), page.parent)
        return f"{target}#__span-0-{line}" if line else target

    def led_here(self, text: str, page: Path, origin: Path) -> str:
        """The text of a page or a drawing, whose links out of docs/ lead to pages of the site.

        Args:
            text: what is written at `origin`, a file of docs/.
            page: where it lies in the site.
        """

        def replaced(found: re.Match[str]) -> str:
            path = (origin.parent / found["target"]).resolve()
            if not path.exists() or path.is_relative_to(ROOT / "docs") or not path.is_relative_to(ROOT):
                return found[0]
            link = self.link(page, path, line_of(path, found["place"] or ""))
            # A drawing is shown within a page. Zensical translates links of Markdown only.
            drawing = page.suffix == ".svg"
            return f'<a target="_parent" href="{link.replace(".md", ".html")}' if drawing else found["before"] + link

        return LINK.sub(replaced, text)

    def write(self) -> None:
        """Write the pages, and those of what the folders among them list."""
        written = set[Path]()
        while waiting := self.asked.keys() - written:
            for path in sorted(waiting):
                page = self.page_of(path)
                page.parent.mkdir(parents=True, exist_ok=True)
                listed = "\n".join(self._listed(path, page)) if path.is_dir() else fence(path)
                page.write_text(f"{UNSEARCHED}# {path.relative_to(ROOT)}\n\n{listed}\n", encoding="utf-8")
            written |= waiting

    def _listed(self, folder: Path, page: Path) -> Iterator[str]:
        for path in sorted(folder.iterdir()):
            shown = path.suffix in LANGUAGES or (path.is_dir() and any(path.glob("**/*.py")))
            if shown and not path.name.startswith((".", "__pycache__")):
                yield f"- [{path.name}]({self.link(page, path)})"


def line_of(path: Path, place: str) -> int | None:
    """The number of a line that a link names: L7, L7-L9, or :~:text= and the text that it begins with."""
    if number := re.match(r"L(\d+)", place):
        return int(number[1])
    if place.startswith(TEXT):
        lines = path.read_text(encoding="utf-8").splitlines()
        wanted = unquote(place.removeprefix(TEXT))
        found = [number for number, line in enumerate(lines, 1) if line.lstrip().startswith(wanted)]
        if not found:
            raise UserError(f"{path}: no line begins with {wanted!r}, which a page links to")
        return found[0]
    return None


def fence(path: Path) -> str:
    """A file's text with numbered lines."""
    language = LANGUAGES.get(path.suffix, "text")
    return f'``````{language} linenums="1"\n{path.read_text(encoding="utf-8")}\n``````'
