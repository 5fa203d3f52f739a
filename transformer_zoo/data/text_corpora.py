"""What the scripts data/<corpus>/prepare.py of plain text share: reading the hub, writing documents."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from transformer_zoo.errors import UserError
from transformer_zoo.files import replacing, temporary_folder, umask

SEPARATOR = "<|endoftext|>"  # the line after each document of a text file that holds several


def hub_texts(splits: Mapping[str, Any], split: str) -> Iterator[str]:
    """The column `text` of one split. UserError if it is not there, or the hub gives up on the way."""
    if split not in splits:
        raise UserError(f"hub dataset: no split {split!r}; it has {', '.join(splits)}")
    number = 0
    try:
        for number, row in enumerate(splits[split], start=1):
            if not isinstance(row.get("text"), str):
                raise UserError(f"hub dataset: row {number} of {split}: no text under 'text'; it has {', '.join(row)}")
            yield row["text"]
    except UserError:
        raise
    except Exception as error:  # the network's, the hub's and the file formats' errors have no common base
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"hub dataset: {split} broke off after row {number}: {reason}; run this again") from error


def write_text(path: Path, texts: Iterable[str], *, separator: str | None = None) -> None:
    r"""Writes documents into one UTF-8 file: beside, synced, then renamed.

    With `separator` each is followed by that line, and a document that does not end in a line's end gets one. A
    document that holds the separator as a line of its own cannot be told from two.

    Raises:
        UserError: there is no text.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    n_documents = n_bytes = 0
    with replacing(path) as part, part.open("wb") as file:
        for text in tqdm(texts, desc=path.stem, unit="document", disable=None, leave=False):
            if separator is not None:
                text += ("" if text.endswith("\n") else "\n") + separator + "\n"
            n_bytes += file.write(text.encode())
            n_documents += 1
        if not n_bytes:
            raise UserError(f"{path}: no text in its source")
    count = "" if separator is None else f", {n_documents:,} documents"
    print(f"{path}: {n_bytes:,} bytes{count}")


def split_by_hash(texts: Iterable[str], share: int) -> Iterator[tuple[str, str]]:
    """Each text with its split: `val` for one in `share`, by its SHA-256, so that equal texts go together."""
    for text in texts:
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        yield ("train" if number % share else "val"), text


def write_json_lines(out: Path, rows: Iterable[tuple[str, str]], *, file_documents: int = 100_000) -> None:
    """Writes (split, text) into `out`/`split`/00000.jsonl, ...: so many lines `{"text": ...}` a file.

    For corpora bigger than memory. Folders are written beside and renamed after the last row, so that an interrupted
    call leaves nothing that looks finished.

    Raises:
        UserError: train or val got nothing.
    """
    out.mkdir(parents=True, exist_ok=True)
    beside = {split: temporary_folder(out) for split in ("train", "val")}
    counts = dict.fromkeys(beside, 0)
    try:
        with ExitStack() as stack:
            files: dict[str, TextIO] = {}
            for split, text in tqdm(rows, desc=out.name, unit="document", disable=None, leave=False):
                number, place = divmod(counts[split], file_documents)
                if place == 0:
                    if split in files:
                        _finish(files[split])
                    path = beside[split] / f"{number:05d}.jsonl"
                    files[split] = stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
                files[split].write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                counts[split] += 1
            for file in files.values():
                _finish(file)
        for split, count in counts.items():
            if not count:
                raise UserError(f"split {split}: no documents for it in the source")
        for split, folder in beside.items():
            shutil.rmtree(out / split, ignore_errors=True)
            folder.chmod(0o777 & ~umask())  # temporary folders are made for their owner alone
            folder.replace(out / split)
            print(f"{out / split}: {counts[split]:,} documents")
    finally:
        for folder in beside.values():
            shutil.rmtree(folder, ignore_errors=True)


def _finish(file: TextIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
