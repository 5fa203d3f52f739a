"""Builds the site into a folder and follows its links: python -m tests.website [FOLDER], by default build/docs."""

import sys
from pathlib import Path

from transformer_zoo.errors import run_program

from .build import build
from .sources import ROOT


def main(arguments: list[str]) -> None:
    """Build it and say where it is."""
    folder = Path(arguments[0]).resolve() if arguments else ROOT / "build" / "docs"
    print(f"{build(folder) / 'index.html'}: the site")


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
