"""`transformer-zoo split`: splits a corpus into train, validation and test, without held-out text in the training
text."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Literal

from jsonargparse.typing import PositiveInt
from tqdm import tqdm

from transformer_zoo.cli.streams import new_folder
from transformer_zoo.errors import UsageError, UserError

Unit = Literal["document", "paragraph", "line"]


def split(
    files: list[Path],
    validation: float = 500,
    test: float = 500,
    output: Path | None = None,
    source_column: PositiveInt = 1,
    target_column: PositiveInt = 2,
    source_key: str | None = None,
    target_key: str | None = None,
    jsonl_key: str = "text",
    separator: str | None = None,
    unit: Unit = "document",
) -> None:
    """Split sentence pairs, or text, into train, validation and test without leaks.

    A .tsv, two aligned files, or a .jsonl with --source-key and --target-key hold pairs; anything else is text. A hash
    chooses what is held out, so the choice stays when the corpus grows a little. Near-copies (equal except for case,
    punctuation, white space and form) go together. Pairs that share a side with a held-out pair are left out of the
    training text.

    Args:
        files: One or two files; for text also folders.
        validation: Number of pairs, or of pieces of text, for validation; below 1 it is a share of all.
        test: Number of pairs, or of pieces of text, for the test; below 1 it is a share of all.
        output: Folder for the files; by default beside the first file, named after it, with _split at the end.
        source_column: Column of a TSV that holds the source, counted from 1.
        target_column: Column of a TSV that holds the target.
        source_key: Key of the source in JSON lines; a dot goes one level down.
        target_key: Key of the target in JSON lines.
        jsonl_key: Key of the text in JSON lines.
        separator: Line that stands between two documents of a text file.
        unit: Which parts of a text stay together: a document (a file, a line of JSON lines, or the text between two
            separators), a paragraph (separated by blank lines) or a line.

    Examples:
        transformer-zoo split pairs.tsv
        transformer-zoo split corpus.en corpus.de --validation 1000 --test 1000 --output split
        transformer-zoo split books/ --validation 0.02 --test 0.02 --unit paragraph
    """
    held_out = {name: size for name, size in (("test", test), ("validation", validation)) if size}
    _check_sizes(held_out)
    if not files:
        raise UsageError("give the file of the pairs or the text, or two files whose lines belong together")
    folder = output or files[0].with_name(files[0].name.partition(".")[0] + "_split")
    if (source_key is None) != (target_key is None):
        raise UsageError("--source-key and --target-key go together")
    if source_key is None and not _holds_pairs(files):
        counts = split_text(files, held_out, folder, jsonl_key=jsonl_key, separator=separator, unit=unit)
        return _report(folder, counts, {}, f"{unit}s")
    if separator is not None or unit != "document":
        raise UsageError("--separator and --unit are for text; these are sentence pairs")
    columns = {"source_column": source_column, "target_column": target_column}
    keys = {} if source_key is None or target_key is None else {"source_key": source_key, "target_key": target_key}
    _split_pairs(files, held_out, folder, columns, keys)


def _check_sizes(held_out: dict[str, float]) -> None:
    for name, size in held_out.items():
        if not (0 < size < 1 or (size >= 1 and size == int(size))):
            raise UsageError(f"--{name} {size:g}: give a whole number, or a share below 1")
    if len({size < 1 for size in held_out.values()}) > 1:
        raise UsageError("--validation and --test: give both as numbers, or both as shares")
    if not held_out:
        raise UsageError("--validation and --test are 0: nothing to hold out")


def _holds_pairs(files: list[Path]) -> bool:
    return (len(files) == 1 and ".tsv" in files[0].suffixes) or (len(files) == 2 and all(map(Path.is_file, files)))


def _split_pairs(
    files: list[Path], held_out: dict[str, float], folder: Path, columns: dict[str, int], keys: dict[str, str]
) -> None:
    from transformer_zoo.data.parallel import ParallelFiles, read_parallel
    from transformer_zoo.data.splits import split_pairs

    if keys and len(files) != 1:
        raise UsageError("--source-key and --target-key are for one file of JSON lines")
    if keys:
        given = ParallelFiles(jsonl=str(files[0]), **keys)  # type: ignore[arg-type]
    elif len(files) == 2:
        given = ParallelFiles(source=str(files[0]), target=str(files[1]))
    else:
        given = ParallelFiles(tsv=str(files[0]), **columns)  # type: ignore[arg-type]
    text = read_parallel(given)
    parts, dropped = split_pairs(zip(text.source, text.target, strict=True), held_out)
    with new_folder(folder) as part:
        for name, pairs in parts.items():
            if len(files) == 2:
                for side, suffix in enumerate(_suffixes(files)):
                    _write(part / f"{name}{suffix}", (pair[side] + "\n" for pair in pairs))
            elif keys:
                rows = ({"source": source, "target": target} for source, target in pairs)
                _write(part / f"{name}.jsonl", map(_json_line, rows))
            else:
                _write(part / f"{name}.tsv", (f"{source}\t{target}\n" for source, target in pairs))
    _report(folder, {name: len(pairs) for name, pairs in parts.items()}, dropped, "pairs")


def _suffixes(files: list[Path]) -> list[str]:
    """The endings that distinguish the two files: .en and .de, or .source and .target if their names do not differ
    so."""
    ends = ["".join(end for end in file.suffixes if end != ".gz") for file in files]
    return ends if len({end for end in ends if end}) == 2 else [".source", ".target"]


def _json_line(row: dict[str, str]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def split_text(
    files: list[Path],
    held_out: dict[str, float],
    folder: Path,
    *,
    jsonl_key: str = "text",
    separator: str | None = None,
    unit: Unit = "document",
) -> dict[str, int]:
    """Write train and the held-out parts into a new folder; returns the number of units in each.

    The text is read twice, once for its keys and once to be written, because it may be larger than memory.
    """
    from transformer_zoo.characters import is_blank
    from transformer_zoo.data.splits import TRAIN, assign, keys
    from transformer_zoo.data.text import TextFiles

    def units() -> Iterator[str]:
        text = TextFiles(path=[str(file) for file in files], separator=separator)
        if jsonl_key != "text":
            text.jsonl_key = jsonl_key
        found = (piece for document in text.documents() for piece in pieces_of(document, unit))
        return (piece for piece in tqdm(found, unit=f" {unit}s", disable=None, leave=False) if not is_blank(piece))

    rows = [keys((piece,)) for piece in units()]
    if len(rows) == 1:
        raise UserError(f"{files[0]}: a single {unit}; give --separator, or a smaller --unit: paragraph or line")
    places = assign(rows, held_out)
    form: Callable[[str], str] = (lambda piece: _json_line({"text": piece})) if unit == "document" else (
        lambda piece: piece.rstrip("\n") + ("\n\n" if unit == "paragraph" else "\n")
    )  # fmt: skip
    end = text_ending(unit)
    with new_folder(folder) as part:
        for name in (TRAIN, *held_out):
            chosen = (piece for piece, place in zip(units(), places, strict=True) if place == name)
            _write(part / f"{name}.{end}", map(form, chosen))
    return {name: places.count(name) for name in (TRAIN, *held_out)}


def text_ending(unit: Unit) -> str:
    """The ending of the names of such a text's files."""
    return "jsonl" if unit == "document" else "txt"


def pieces_of(document: str, unit: Unit) -> Iterable[str]:
    """The document itself, its paragraphs or its lines."""
    from transformer_zoo.characters import is_blank

    if unit == "document":
        return [document]
    if unit == "line":
        return document.split("\n")
    runs = groupby(document.splitlines(keepends=True), is_blank)
    return ("".join(lines) for blank, lines in runs if not blank)


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)


def _report(folder: Path, counts: dict[str, int], dropped: dict[str, int], what: str) -> None:
    print(f"{folder}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()) + f" {what}")
    if any(dropped.values()):
        print("left out: " + ", ".join(f"{count:,} {why}" for why, count in dropped.items() if count))
