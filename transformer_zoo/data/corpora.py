"""What the scripts data/<corpus>/prepare.py share: reading files and the hub, writing splits, the command line."""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from transformer_zoo.data.parallel import read_lines
from transformer_zoo.data.splits import digest
from transformer_zoo.errors import UserError, first_line, run_program
from transformer_zoo.files import replacing

SEPARATOR = "<|endoftext|>"  # the line after each document of a text file that holds several
_LINE_BREAKS = re.compile(r"[\r\n]+")


def find(folder: Path, name: str) -> Path | None:
    """The file `name`, or `name`.gz, of a folder; None if neither exists."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def find_all(folder: Path, names: Iterable[str]) -> list[Path]:
    """One file for each name, plain or .gz. UserError: one does not exist; the message names the first."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    paths = {name: find(folder, name) for name in names}
    if missing := [name for name, path in paths.items() if path is None]:
        raise UserError(f"{folder}: neither {missing[0]} nor {missing[0]}.gz is there")
    return list(filter(None, paths.values()))


def aligned_lines(paths: Sequence[Path]) -> Iterator[tuple[str, ...]]:
    """Line n of every file, together. UserError: a file ends before the others; the message names it and the line."""
    for number, row in enumerate(zip_longest(*map(read_lines, paths)), start=1):
        if None in row:
            short, long = paths[row.index(None)], next(p for p, s in zip(paths, row, strict=True) if s is not None)
            raise UserError(f"{short}: ends after line {number - 1} but {long} goes on; line n must translate line n")
        yield row


def load_hub(name: str, config: str | None = None, **options: Any) -> Mapping[str, Any]:
    """All splits of a dataset on the hub, or of a local folder of the same form, by `datasets.load_dataset`.

    UserError: it is not found.
    """
    print(f"reading {name} from the hub", flush=True)
    import datasets  # imported here because it takes seconds, and local files do not need it

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # five warnings about retries before it gives up
    try:
        splits: Mapping[str, Any] = datasets.load_dataset(name, config, **options)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"hub dataset {name}: {first_line(error)}; local files can be given with --from DIR") from error
    return splits


def hub_rows(splits: Mapping[str, Any], split: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The texts of one split, by their columns, or by the keys of the dicts in a column `translation`.

    Raises:
        UserError: the split or a column does not exist, or the hub fails during the download.
    """
    if split not in splits:
        raise UserError(f"hub dataset: no split {split!r}; it has {', '.join(splits)}")
    number = 0
    try:
        for number, row in enumerate(splits[split], start=1):
            nested = row.get("translation")
            texts = nested if isinstance(nested, dict) else row
            if any(not isinstance(texts.get(column), str) for column in columns):
                missing, has = " or ".join(map(repr, columns)), ", ".join(texts)
                raise UserError(f"hub dataset: row {number} of {split}: no text under {missing}; it has {has}")
            yield tuple(texts[column] for column in columns)
    except UserError:
        raise
    except Exception as error:  # the network's, the hub's and the file formats' errors have no common base
        said = f"{split} broke off after row {number}: {first_line(error)}"
        raise UserError(f"hub dataset: {said}; run this again") from error


def hub_texts(splits: Mapping[str, Any], split: str) -> Iterator[str]:
    """The column `text` of one split. UserError: as for `hub_rows`."""
    return (text for (text,) in hub_rows(splits, split, ["text"]))


def split_by_hash(texts: Iterable[str], share: int) -> Iterator[tuple[str, str]]:
    """Each text with its split: one text in `share` is `val`. Its SHA-256 decides, so equal texts have one split."""
    for text in texts:
        yield ("train" if digest(text) % share else "val"), text


@contextmanager
def writing(paths: Iterable[Path]) -> Iterator[list[IO[bytes]]]:
    """New files of these names. In the end all of them exist, or none: an interrupted call leaves nothing."""
    with ExitStack() as renamed, ExitStack() as closed:
        yield [closed.enter_context(renamed.enter_context(replacing(path)).open("wb")) for path in paths]


def write_split(out: Path, name: str, languages: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    r"""Write `name`.`language`, one sentence a line (UTF-8, \n): line n of each file translates line n of the others.

    A line break inside a sentence becomes a space and is reported. Returns the number of rows; UserError: there are
    none.
    """
    out.mkdir(parents=True, exist_ok=True)
    n_rows = n_broken = 0
    with writing(out / f"{name}.{language}" for language in languages) as files:
        for row in tqdm(rows, desc=name, unit="pair", disable=None, leave=False):
            for file, sentence in zip(files, row, strict=True):
                if "\n" in sentence or "\r" in sentence:
                    sentence = _LINE_BREAKS.sub(" ", sentence).strip()
                    n_broken += 1
                file.write(f"{sentence}\n".encode())
            n_rows += 1
        if not n_rows:
            raise UserError(f"split {name}: no sentences in its source")
    print(f"{out / name}.{{{','.join(languages)}}}: {n_rows:,} pairs")
    if n_broken:
        print(f"  {n_broken:,} sentences had a line break inside; it is a space now")
    return n_rows


def write_text(path: Path, texts: Iterable[str], *, separator: str | None = None) -> None:
    r"""Write documents into one UTF-8 file.

    With `separator` each document is followed by that line, and a document that does not end with a line's end gets
    one. A document that holds the separator as a line of its own looks like two. UserError: there is no text.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    n_documents = n_bytes = 0
    with writing([path]) as [file]:
        for text in tqdm(texts, desc=path.stem, unit="document", disable=None, leave=False):
            if separator is not None:
                text += ("" if text.endswith("\n") else "\n") + separator + "\n"
            n_bytes += file.write(text.encode())
            n_documents += 1
        if not n_bytes:
            raise UserError(f"{path}: no text in its source")
    count = "" if separator is None else f", {n_documents:,} documents"
    print(f"{path}: {n_bytes:,} bytes{count}")


def write_json_lines(out: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write (split, text) of a corpus larger than memory into train.jsonl and val.jsonl: a line `{"text": ...}` each.

    UserError: train or val got nothing.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = {split: out / f"{split}.jsonl" for split in ("train", "val")}
    counts = dict.fromkeys(paths, 0)
    with writing(paths.values()) as opened:
        files = dict(zip(paths, opened, strict=True))
        for split, text in tqdm(rows, desc=out.name, unit="document", disable=None, leave=False):
            files[split].write((json.dumps({"text": text}, ensure_ascii=False) + "\n").encode())
            counts[split] += 1
        if empty := [split for split, count in counts.items() if not count]:
            raise UserError(f"split {empty[0]}: no documents for it in the source")
    for split, path in paths.items():
        print(f"{path}: {counts[split]:,} documents")


def run(prepare: Callable[..., None], arguments: Sequence[str] | None = None) -> None:
    """Call a script's `prepare` with the options of the command line; its docstring and types become the --help.

    A UserError becomes one line on standard error and exit status 1, and so does a `from_` that is not a folder. A
    wrong option ends with status 2.
    """
    from transformer_zoo.commandline import parse_call  # only a command line needs these packages

    call = parse_call(prepare, sys.argv[1:] if arguments is None else arguments)
    out = Path(call.arguments["out"])
    new = [folder for folder in (out, *out.parents) if not folder.exists()]

    def work() -> None:
        folder = call.arguments.get("from_")
        if folder is not None and not folder.is_dir():
            raise UserError(f"--from {folder}: no such folder")
        prepare(*call.args, **call.kwargs)

    if status := run_program(work):
        for folder in new:  # with nothing in it
            with suppress(OSError):
                folder.rmdir()
        sys.exit(status)
