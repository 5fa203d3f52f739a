"""Writes the source of this interpreter's standard library, split by file. This corpus needs no network."""

import platform
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from transformer_zoo.data.corpora import SEPARATOR, run, write_text
from transformer_zoo.data.splits import digest
from transformer_zoo.errors import UserError

# Installed packages, tests, and files that are tables, other people's grammar or a help text rather than a program.
SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "encodings", "pydoc_data"}
VAL_SHARE = 10  # one file in this many is val


def modules(library: Path) -> list[Path]:
    """The .py files of a standard library, in the order of their paths."""
    paths = (path.relative_to(library) for path in library.rglob("*.py") if path.is_file())
    kept = (path for path in paths if not SKIPPED.intersection(path.parts) and "_sysconfigdata" not in path.name)
    return sorted(kept, key=Path.as_posix)


def is_val(path: Path) -> bool:
    """Whether a file is held out. Its path decides, so it stays on its side from version to version."""
    return digest(path.as_posix()) % VAL_SHARE == 0


def texts(library: Path, paths: list[Path]) -> Iterator[str]:
    """The text of the files, without those that are empty or not in the encoding they declare.

    Raises:
        UserError: no text is left.
    """
    kept = 0
    for path in paths:
        try:
            with tokenize.open(library / path) as file:
                text = file.read()
        except (SyntaxError, UnicodeDecodeError):
            continue
        if text.strip():
            kept += 1
            yield text
    if not kept:
        raise UserError(f"{library}: no text in {len(paths)} of its Python files; name another folder with --from DIR")


def prepare(from_: Path | None = None, out: Path = Path(__file__).parent) -> None:
    """Write the standard library's own source as train.txt and val.txt, a line <|endoftext|> after each file.

    Args:
        from_: folder with Python files; by default the standard library of the interpreter that runs this.
        out: folder for train.txt and val.txt; by default the script's own.
    """
    library = from_ or Path(sysconfig.get_paths()["stdlib"])
    if not (paths := modules(library)):
        raise UserError(f"{library}: no Python files here; name a folder with --from DIR")
    print(f"{library if from_ else f'Python {platform.python_version()}'}: {len(paths):,} files")
    write_text(out / "train.txt", texts(library, [path for path in paths if not is_val(path)]), separator=SEPARATOR)
    write_text(out / "val.txt", texts(library, [path for path in paths if is_val(path)]), separator=SEPARATOR)


if __name__ == "__main__":
    run(prepare)
