"""What the scripts data/<corpus>/prepare.py share: reading pairs, writing splits, the command line."""

import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from transformer_zoo.data.parallel import read_lines
from transformer_zoo.errors import UserError, run_program
from transformer_zoo.files import replacing

_LINE_BREAKS = re.compile(r"[\r\n]+")


def find(folder: Path, name: str) -> Path | None:
    """The file `name`, or `name`.gz, of a folder; None if neither is there."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def find_all(folder: Path, names: Iterable[str]) -> list[Path]:
    """One file for each name, plain or .gz. UserError names the first that is not there."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    paths = []
    for name in names:
        path = find(folder, name)
        if path is None:
            raise UserError(f"{folder}: neither {name} nor {name}.gz is there")
        paths.append(path)
    return paths


def aligned_lines(paths: Sequence[Path]) -> Iterator[tuple[str, ...]]:
    """Line n of every file, together. UserError names the file that ends first, and where."""
    for number, row in enumerate(zip_longest(*map(read_lines, paths)), start=1):
        if None in row:
            short, long = (
                paths[row.index(None)],
                next(p for p, s in zip(paths, row, strict=True) if s is not None),
            )
            raise UserError(f"{short}: ends after line {number - 1} but {long} goes on; line n must translate line n")
        yield row


def load_hub(name: str, config: str | None = None, **options: Any) -> Mapping[str, Any]:
    """All splits of a dataset of the hub, or of a local folder of the same form. UserError if not found.

    `options` go to `datasets.load_dataset`, such as `streaming=True` to read while it downloads.
    """
    print(f"reading {name} from the hub", flush=True)
    import datasets  # here because it takes seconds, and who has local files does not need it

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # five warnings about retries before it gives up
    try:
        splits: Mapping[str, Any] = datasets.load_dataset(name, config, **options)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"hub dataset {name}: {reason}; local files can be given with --from DIR") from error
    return splits


def hub_rows(splits: Mapping[str, Any], split: str, languages: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The sentences of one split. Languages are columns, or keys of the dicts in a column `translation`.

    Raises UserError if the split or a language is not there.
    """
    if split not in splits:
        raise UserError(f"hub dataset: no split {split!r}; it has {', '.join(splits)}")
    rows = splits[split]
    nested = "translation" in rows.column_names
    for number, row in enumerate(rows, start=1):
        sentences = row["translation"] if nested else row
        if any(not isinstance(sentences.get(language), str) for language in languages):
            has = ", ".join(sentences)
            raise UserError(f"hub dataset: row {number} of {split}: no text for {' or '.join(languages)}; it has {has}")
        yield tuple(sentences[language] for language in languages)


def write_split(out: Path, name: str, languages: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    r"""Writes `name`.`language`, one sentence a line (UTF-8, \n): line n of each translates line n of all.

    Files are written beside, synced, then renamed, all of them after the last row: never half a split. A line
    break inside a sentence becomes a space and is reported. Returns the number of rows.

    Raises UserError if there are none.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{name}.{language}" for language in languages]
    with ExitStack() as stack:
        parts = [stack.enter_context(replacing(path)) for path in paths]
        n_rows, n_broken = _write(parts, tqdm(rows, desc=name, unit="pair", disable=None, leave=False))
        if not n_rows:
            raise UserError(f"split {name}: no sentences in its source")
    print(f"{out / name}.{{{','.join(languages)}}}: {n_rows:,} pairs")
    if n_broken:
        print(f"  {n_broken:,} sentences had a line break inside; it is a space now")
    return n_rows


def _write(paths: Sequence[Path], rows: Iterable[Sequence[str]]) -> tuple[int, int]:
    n_rows = n_broken = 0
    with ExitStack() as stack:
        files: list[TextIO] = [stack.enter_context(p.open("w", encoding="utf-8", newline="\n")) for p in paths]
        for row in rows:
            for file, sentence in zip(files, row, strict=True):
                if "\n" in sentence or "\r" in sentence:
                    sentence = _LINE_BREAKS.sub(" ", sentence).strip()
                    n_broken += 1
                file.write(sentence + "\n")
            n_rows += 1
    return n_rows, n_broken


# What jsonargparse cannot read off a signature: `from` is a keyword of Python, a list takes several words.
_BY_HAND: dict[str, dict[str, Any]] = {
    "from_": {"flag": "--from", "type": Path | None, "metavar": "DIR"},
    "languages": {"flag": "--languages", "type": str, "nargs": "+"},
}


def run(prepare: Callable[..., None]) -> None:
    """Calls a script's `prepare` with what the command line says; its docstring and types are the --help.

    A parameter `from_` becomes `--from`, and `languages` takes several words. A UserError ends in one line on
    standard error and exit status 1, a bad option in status 2.
    """
    import docstring_parser  # only a command line needs these two

    from transformer_zoo.commandline import Parser

    documented = docstring_parser.parse(inspect.getdoc(prepare) or "")
    helps = {parameter.arg_name: parameter.description for parameter in documented.params}
    signature = inspect.signature(prepare).parameters
    by_hand = {name: dict(options) for name, options in _BY_HAND.items() if name in signature}
    parser = Parser(description=documented.description, allow_abbrev=False)
    parser.words = sys.argv[1:]
    for name, options in by_hand.items():
        flag, default = options.pop("flag"), signature[name].default
        default = list(default) if "nargs" in options else default
        parser.add_argument(flag, dest=name, default=default, help=helps[name], **options)
    parser.add_function_arguments(prepare, as_group=False, skip=set(by_hand))
    arguments = vars(parser.parse_args())
    parser.check(arguments)
    out = Path(arguments["out"])
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    if status := run_program(lambda: prepare(**arguments)):
        for folder in new:  # with nothing in it
            with suppress(OSError):
                folder.rmdir()
        sys.exit(status)
