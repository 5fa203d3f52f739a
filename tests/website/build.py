"""What is in docs/ becomes a site: chapters with their outputs, the reference, pages of the code that pages lead to."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from transformer_zoo.errors import UserError

from . import chapters, formulas, reference
from .sources import ROOT, Sources
from .walk import faults

DOCS = ROOT / "docs"
SHOWN = {".md", ".png", ".svg", ".css", ".json"}
DRAWING = re.compile(r"!\[([^]]+)\]\((pictures/figure_\w+\.svg)\)")
COLOURED = re.compile(r"\x1b\[[\d;]*m")
CHAPTER = re.compile(r"learn/\d\w*\.md")


def build(folder: Path, *, execute: bool = True) -> Path:
    """Build the site into a folder, whose earlier content is lost.

    Args:
        folder: gets `pages`, in Markdown, and `site`, in HTML.
        execute: run the cells of chapters, which takes minutes; without, they have no outputs.

    Returns:
        The folder of the site.

    Raises:
        UserError: a page that no navigation has, a public name without a docstring, a chapter that does not run, a
            warning of Zensical's, a link that leads nowhere, or something that is loaded from elsewhere.
    """
    shutil.rmtree(folder, ignore_errors=True)
    sources = Sources(folder / "pages")
    copy_pages(sources, execute=execute)
    packages = reference.write(sources.pages / "reference", sources)
    sources.write()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    config = configuration(project, [path.relative_to(sources.pages).as_posix() for path in packages])
    (folder / "mkdocs.yml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    say(zensical(folder / "mkdocs.yml"))
    say(faults(folder / "site"))
    return folder / "site"


def say(found: list[str]) -> None:
    """Refuse a site with faults."""
    if found:
        raise UserError("the site has faults:\n" + "\n".join(found))


def copy_pages(sources: Sources, *, execute: bool) -> None:
    """Copy what is in docs/; links out of it lead to pages of the code, formulas become pictures, chapters are run."""
    for path in sorted(path for path in DOCS.rglob("*") if path.suffix in SHOWN):
        page = sources.pages / (name := path.relative_to(DOCS).as_posix())
        page.parent.mkdir(parents=True, exist_ok=True)
        if CHAPTER.fullmatch(name):
            chapters.page(path, page, execute=execute)
        else:
            shutil.copyfile(path, page)
        if page.suffix in (".md", ".svg"):
            text = formulas.drawn(page.read_text(encoding="utf-8"))
            page.write_text(sources.led_here(with_drawings(text), page, path), encoding="utf-8")


def with_drawings(text: str) -> str:
    """A page's text whose drawings can be used: links of a picture do not work, those of an object do."""
    used = r'<div class="drawing"><object type="image/svg+xml" data="\2" aria-label="\1"></object></div>'
    return DRAWING.sub(used, text)


def configuration(project: dict[str, Any], packages: list[str]) -> dict[str, Any]:
    """The site's configuration, that of docs/site.yml with what is known only now.

    Args:
        project: as pyproject.toml has it. Its `urls.Source` is the one address of the project; without it no page has
            a button that needs one.
        packages: the pages of the reference, one for each package.
    """
    config: dict[str, Any] = yaml.safe_load((DOCS / "site.yml").read_text(encoding="utf-8"))
    config["nav"] = [*listed(config["nav"]), {"Reference": [{Path(page).stem: page} for page in packages]}]
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    named = set(in_navigation(config["nav"])) - set(packages)
    say([f"docs/{page}: not in the navigation of docs/site.yml" for page in sorted(there - named)])
    say([f"docs/site.yml: there is no page {page}" for page in sorted(named - there)])
    if source := project.get("urls", {}).get("Source"):
        config |= {"repo_url": source, "edit_uri": "edit/main/docs/"}
    config |= {"docs_dir": "pages", "site_dir": "site"}
    config["theme"]["custom_dir"] = os.fspath(DOCS / "theme")
    handler = config["plugins"]["mkdocstrings"]["handlers"]["python"]
    handler["paths"] = [str(ROOT)]
    handler["options"]["extensions"] = [str(Path(__file__).with_name("doctests.py"))]
    return config


def listed(nav: Any) -> Any:
    """A navigation with the pages that its patterns stand for."""
    match nav:
        case [str(pattern)] if "*" in pattern:
            return [path.relative_to(DOCS).as_posix() for path in sorted(DOCS.glob(pattern))]
        case list():
            return [listed(entry) for entry in nav]
        case dict():
            return {title: listed(entry) for title, entry in nav.items()}
        case _:
            return nav


def in_navigation(nav: Any) -> Iterator[str]:
    """The pages that a navigation names."""
    match nav:
        case str():
            yield nav
        case list():
            for entry in nav:
                yield from in_navigation(entry)
        case dict():
            for entry in nav.values():
                yield from in_navigation(entry)


def zensical(config: Path) -> list[str]:
    """Make HTML of the pages; what was complained of."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = COLOURED.sub("", done.stdout).partition("Traceback")[0]  # of Zensical's own, behind what it complains of
    return said.splitlines() if done.returncode or re.search("warn|error", said, re.I) else []
