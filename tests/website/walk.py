"""Follows the links of a built site."""

import re
from collections.abc import Iterator
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
NO_LOADS = {"canonical", "prev", "next", "alternate"}  # a link element that is for programs that read the page
CSS_LOAD = re.compile(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^'\")\s]+")


class Page(HTMLParser):
    """What a page has: ids, links, those of its article alone, what it loads, and where Markdown was left as it is."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.ids = path, set[str]()
        self.links, self.in_article, self.loads = list[str](), list[str](), list[str]()
        self._within_article = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "article":
            self._within_article = True
        if tag == "a" and "href" in found and "headerlink" not in found.get("class", ""):
            self.links.append(found["href"])
            self.in_article += [found["href"]] if self._within_article else []
        if found.get(name := LOADS.get(tag, "")) and not NO_LOADS & set(found.get("rel", "").split()):
            self.loads.append(found[name])
        if found.get("class") == "mermaid":
            self.loads.append("https://mermaid")  # which the theme fetches to draw it

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._within_article = False


class Site:
    """A built site, a folder with index.html."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @cached_property
    def pages(self) -> dict[Path, Page]:
        """All but the one for what is not found, whose links hold at any place; drawings have links, too."""
        found = sorted(path for kind in ("*.html", "*.svg") for path in self.folder.rglob(kind))
        return {path: Page(path) for path in found if path.name != "404.html"}

    def target(self, page: Page, link: str) -> tuple[Path, str]:
        """The file and the place in it that a link within the site leads to."""
        parts = urlsplit(link)
        path = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
        return path / "index.html" if path.is_dir() else path, unquote(parts.fragment)

    def steps(self, start: str = "index.html") -> dict[str, int]:
        """How many links each page is from a page, counting those of the text alone, not of menus."""
        found, waiting = {start: 0}, [start]
        for name in waiting:
            page = self.pages[self.folder / name]
            for link in filter(is_inside, page.in_article):
                path, _ = self.target(page, link)
                if path in self.pages and (there := path.relative_to(self.folder).as_posix()) not in found:
                    found[there] = found[name] + 1
                    waiting.append(there)
        return found


def is_inside(link: str) -> bool:
    """Whether a link leads to a page of the site."""
    return not urlsplit(link).scheme and not urlsplit(link).netloc


def faults(folder: Path) -> list[str]:
    """Links that lead nowhere, what is loaded from elsewhere, a line each."""
    site = Site(folder)
    return [
        f"{page.path.relative_to(site.folder)}: {fault}" for page in site.pages.values() for fault in _of(page, site)
    ] + [
        f"{path.relative_to(site.folder)}: loads {load}"
        for path in sorted(site.folder.rglob("*.css"))
        for load in CSS_LOAD.findall(path.read_text(encoding="utf-8"))
    ]


def _of(page: Page, site: Site) -> Iterator[str]:
    yield from (f"loads {load}" for load in page.loads if not is_inside(load) and not load.startswith("data:"))
    for link in filter(is_inside, page.links + page.loads):
        path, place = site.target(page, link)
        if not path.is_file():
            yield f"{link} leads nowhere"
        elif place and path in site.pages and place not in site.pages[path].ids:
            yield f"{link} leads to no place of that page"
