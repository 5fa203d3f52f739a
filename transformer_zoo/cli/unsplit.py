"""Prepares text that is not split yet for training: it is read, some is held out without leaks, and it is written."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from transformer_zoo.cli.split import Unit, pieces_of, split_text, text_ending
from transformer_zoo.cli.streams import new_folder
from transformer_zoo.errors import UsageError, UserError

LEAST_PAIRS, LEAST_BYTES = 100, 2000
_HELD_OUT = 0.02
_MANY = 50  # whole documents are held out if there are this many, otherwise paragraphs, otherwise lines


@dataclass(frozen=True)
class Prepared:
    """A recipe's fields about its text, and the splitting that is still to do, which returns a line for people; then
    `train`."""

    data: dict[str, Any]
    split: Callable[[], str]
    train: Callable[[], Iterable[str]]
    is_translation: bool = False


def prepare_pairs(files: list[Path], from_: str | None, to: str | None, folder: Path) -> Prepared:
    """Sentence pairs of a TSV, JSON lines or two files, split into `folder`.

    UserError: there are too few pairs, or as for `read_parallel`. UsageError: the languages are not known.
    """
    from transformer_zoo.data.parallel import ParallelFiles, read_parallel
    from transformer_zoo.data.splits import split_pairs

    if len(files) > 2:
        raise UsageError("--pairs takes a file, or two whose lines belong together")
    source, target, files = _in_languages(files, from_, to)
    paths = list(map(str, files))
    if len(paths) == 2:
        given = ParallelFiles(source=paths[0], target=paths[1])
    else:
        given = ParallelFiles(jsonl=paths[0]) if ".jsonl" in files[0].suffixes else ParallelFiles(tsv=paths[0])
    text = read_parallel(given)
    for side in (text.source, text.target):
        _check_plain(str(given), side)
    if len(text) < LEAST_PAIRS:
        raise UserError(f"{given}: {len(text)} pairs teach nothing; give at least {LEAST_PAIRS}, better thousands")
    held_out = min(max(round(_HELD_OUT * len(text)), 50), 1000, len(text) // 10)
    parts, dropped = split_pairs(zip(text.source, text.target, strict=True), {"test": held_out, "validation": held_out})
    named = {name: {end: str(folder / f"{name}.{end}") for end in ("source", "target")} for name in parts}

    def split() -> str:
        with new_folder(folder) as part:
            for name, rows in parts.items():
                for side, end in enumerate(("source", "target")):
                    lines = "".join(f"{row[side]}\n" for row in rows)
                    (part / f"{name}.{end}").write_text(lines, "utf-8", newline="\n")
        said = f"{given}: " + _counted({name: len(rows) for name, rows in parts.items()}, "pairs")
        return said + "".join(f"; left out: {count:,} {why}" for why, count in dropped.items() if count)

    data = {"source_lang": source, "target_lang": target, "train": named["train"], "validation": named["validation"]}
    return Prepared(
        {**data, "tests": {"test": named["test"]}}, split, lambda: chain.from_iterable(parts["train"]), True
    )


def _in_languages(files: list[Path], from_: str | None, to: str | None) -> tuple[str, str, list[Path]]:
    """The languages, and the files in their order; two files are ordered by the endings of their names."""
    ends = [file.name.removesuffix(".gz").rpartition(".")[2] for file in files]
    if len(files) == 2:
        if {from_, to} == set(ends) and ends[0] == to:
            files, ends = files[::-1], ends[::-1]
        from_, to = from_ or ends[0], to or ends[1]
    if from_ is None or to is None:
        raise UsageError("--pairs needs the languages, such as --from en --to de")
    if from_ == to:
        raise UsageError(f"--from and --to are both {from_}")
    return from_, to, files


def prepare_text(paths: list[Path], folder: Path) -> Prepared:
    """Text of files and folders, split into `folder`; UserError: there is too little, or as for `TextFiles`."""
    from transformer_zoo.data.text import TextFiles

    text = TextFiles(path=[str(path) for path in paths])
    if around := text.folder_around(folder.absolute().parent):
        raise UsageError(f"--output {folder.parent} is in {around}, whose files are all text: give another")
    n_bytes, n_documents, longest = 0, 0, 0
    for piece in text.pieces():
        _check_plain(piece.path, (piece.text,))
        size = len(piece.text.encode())
        n_bytes, n_documents, longest = n_bytes + size, n_documents + piece.last, max(longest, size)
    if n_bytes < LEAST_BYTES:
        raise UserError(f"{text}: {n_bytes} bytes teach nothing; give at least {LEAST_BYTES:,}, better millions")
    share = min(max(_HELD_OUT, 20_000 / n_bytes), 1_000_000 / n_bytes, 0.1)
    unit = _unit(text.documents, n_documents, longest / n_bytes)
    end = text_ending(unit)
    named = {name: {"path": str(folder / f"{name}.{end}")} for name in ("train", "validation")}

    def split() -> str:
        counts = split_text(paths, {"validation": share}, folder, unit=unit)
        return f"{text}: {n_bytes:,} bytes; " + _counted(counts, f"{unit}s")

    return Prepared(named, split, lambda: TextFiles(path=named["train"]["path"]).texts())


def _unit(documents: Callable[[], Iterator[str]], n_documents: int, largest: float) -> Unit:
    """The unit that stays together when text is held out: the largest one of which there are many, none of them most of
    all."""
    if n_documents >= _MANY and largest < 0.1:
        return "document"
    units: tuple[Unit, ...] = ("paragraph", "line")
    for unit in units:
        found = (piece for document in documents() for piece in pieces_of(document, unit))
        if sum(1 for _ in zip(range(_MANY), found, strict=False)) == _MANY:
            return unit
    raise UserError(
        f"the text has fewer than {_MANY} lines, of which none can be held out: give more, or write it in lines"
    )


def _check_plain(path: str, texts: Iterable[str]) -> None:
    for number, text in enumerate(texts, start=1):
        if "\0" in text:
            raise UserError(f"{path}:{number}: no text (it has a NUL byte); name the files that are")


def _counted(counts: dict[str, int], what: str) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) + f" {what}"
