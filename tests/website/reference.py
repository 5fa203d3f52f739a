"""The reference: a page for each package, with every public name, its docstring and its example."""

import inspect
from pathlib import Path
from typing import Any

import griffe

from tests.test_examples import ROOMS, exported
from transformer_zoo.errors import UserError

from .sources import ROOT, Sources

DOORS = ("transformer_zoo", *(f"transformer_zoo.{room}" for room in ROOMS))


def homes() -> dict[int, tuple[str, str]]:
    """The package and the name that a public thing is described under, by its id."""
    found: dict[int, tuple[str, str]] = {}
    for room in DOORS:
        for name, thing in exported(room).items():
            if id(thing) not in found or getattr(thing, "__module__", "").startswith(f"{room}."):
                found[id(thing)] = room, name
    return found


def write(folder: Path, sources: Sources) -> list[Path]:
    """Write the pages of all packages into a folder; a public name that nothing is said of is refused."""
    package, at = read_package(), homes()
    silent = [f"{room}.{name}" for room, name in at.values() if not described(package, room, name)]
    if silent:
        raise UserError(f"public names without a docstring: {', '.join(silent)}")
    folder.mkdir(parents=True, exist_ok=True)
    return [_room(room, folder, package, at, sources) for room in DOORS]


def read_package() -> griffe.Module:
    """The package as griffe reads it, without importing it."""
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    package = loader.load("transformer_zoo")
    loader.resolve_aliases()
    assert isinstance(package, griffe.Module)
    return package


def path_of(package: griffe.Module, room: str, name: str) -> str:
    """Where griffe finds a public name: in its package, or, where that looks it up when asked, where it was written."""
    within = room.removeprefix("transformer_zoo").removeprefix(".")
    if name in (package[within] if within else package).members:
        return f"{room}.{name}"
    thing = exported(room)[name]
    return f"{thing.__module__}.{thing.__qualname__}"


def described(package: griffe.Module, room: str, name: str) -> bool:
    """Whether a docstring says what it is."""
    return package[path_of(package, room, name).removeprefix("transformer_zoo.")].has_docstring


def _room(room: str, folder: Path, package: griffe.Module, at: dict[int, tuple[str, str]], sources: Sources) -> Path:
    page = folder / f"{room.rpartition('.')[2]}.md"
    things = exported(room)
    own = [name for name, thing in things.items() if at[id(thing)] == (room, name)]
    text = [
        "---\ngenerated: true\n---",
        f"# {room}",
        f"::: {room}\n    options: {{show_root_heading: false, show_root_toc_entry: false, members: false}}",
        *(f"::: {path_of(package, room, name)}\n\n{_source(things[name], page, sources)}" for name in own),
    ]
    if others := [at[id(thing)] for name, thing in things.items() if name not in own]:
        listed = (f"- [`{name}`][{path_of(package, home, name)}] in {home}" for home, name in others)
        text.append("## Described elsewhere\n\n" + "\n".join(listed))
    page.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    return page


def _source(thing: Any, page: Path, sources: Sources) -> str:
    """A link to where it is written; constants have none."""
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return ""
    path = Path(inspect.getsourcefile(inspect.unwrap(thing)) or "")
    line = inspect.getsourcelines(thing)[1]
    return f"[{path.relative_to(ROOT)}]({sources.link(page, path, line)}){{ .written-in }}"
