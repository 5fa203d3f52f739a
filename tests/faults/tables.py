"""The tables of wrong inputs: all options of all commands, fields of recipes, and files with all kinds of damage."""

from collections.abc import Iterator
from pathlib import Path

from .command_lines import command_line, yaml_recipes
from .files import data_files, imported_folders, run_folders
from .inputs import Case


def all_cases(place: Path) -> list[Case]:
    """All of them; `place` is a workplace, whose files say what there is to damage."""

    def found() -> Iterator[Case]:
        yield from command_line()
        yield from yaml_recipes()
        yield from data_files()
        yield from run_folders(place)
        yield from imported_folders(place)

    return list(found())
