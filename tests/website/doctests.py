"""Examples in docstrings follow their text without an empty line: for a page they are put into fences."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)(>>> .*(?:\n.+)*)", re.M)  # to the next empty line, as doctest has it


def fenced(docstring: str) -> str:
    """The text of a docstring with a fence around each example."""
    return EXAMPLE.sub(r"\n\1```pycon\n\1\2\n\1```", docstring)


class Fences(griffe.Extension):
    """Loaded by griffe, which reads the docstrings."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for everything that has been read."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
