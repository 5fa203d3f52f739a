"""Kinds of damage to a file: each takes a path in a workplace and leaves something wrong there."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], object]


def changed(path: str, damage: Damage) -> Damage:
    """`damage` of the file at this place of a workplace."""
    return lambda place: damage(place / path)


def both(*damages: Damage) -> Damage:
    """One after the other."""
    return lambda place: [damage(place) for damage in damages]


def content(what: bytes | str) -> Damage:
    """The file holds this."""

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(what.encode() if isinstance(what, str) else what)

    return write


def missing(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    """A folder in its place."""
    path.unlink(missing_ok=True)
    path.mkdir()


def pipe(path: Path) -> None:
    """A named pipe in its place, from which nothing comes."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link_to_itself(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path: Path) -> None:
    """Bytes that mean nothing, as many as there were."""
    size = path.stat().st_size
    path.write_bytes((bytes(range(128, 256)) * (size // 128 + 1))[: max(size, 64)])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(max(path.stat().st_size, 64)))


def field(name: str, value: Any) -> Damage:
    """A field of a JSON file has this value; a dot goes one level down."""

    def write(path: Path) -> None:
        top = json.loads(path.read_text("utf-8"))
        top.pop("checksum", None)  # which would be found to be another
        *above, last = name.split(".")
        fields = top
        for key in above:
            fields = fields[int(key)] if isinstance(fields, list) else fields[key]
        fields[last] = value
        path.write_text(json.dumps(top), "utf-8")

    return write


def without(*names: str) -> Damage:
    """Fields of a JSON file are not there."""

    def write(path: Path) -> None:
        fields = json.loads(path.read_text("utf-8"))
        fields.pop("checksum", None)
        for name in names:
            del fields[name]
        path.write_text(json.dumps(fields), "utf-8")

    return write


def replaced(old: str, new: str) -> Damage:
    """A part of a text is another, once."""

    def write(path: Path) -> None:
        text = path.read_text("utf-8")
        assert old in text, (path, old)
        path.write_text(text.replace(old, new, 1), "utf-8", errors="surrogateescape")

    return write


def appended(what: bytes) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes() + what)


def in_the_middle(what: bytes) -> Damage:
    """These bytes after the first half of the lines."""

    def write(path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[: len(lines) // 2], what, *lines[len(lines) // 2 :]]))

    return write


def copied_to(target: str) -> Damage:
    """What is there stands elsewhere too, as seen from the file's folder."""
    return lambda path: shutil.copy(path, path.parent / target)


def gzip_wrong_sum(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1
    path.write_bytes(raw)


def gzip_of(what: bytes, times: int = 1) -> Damage:
    """A gzip file that unpacks to this, so many times over."""

    def write(path: Path) -> None:
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(times):
                file.write(what)

    return write


DEEP = "[" * 100_000
JSON_DAMAGES: dict[str, Damage] = {
    "empty": content(""),
    "half": half,
    "noise": noise,
    "zeros": zeros,
    "a list": content("[1, 2]"),
    "a word": content('"word"'),
    "null": content("null"),
    "a number": content("1e999"),
    "deep": content(DEEP),
    "an object in a deep one": content('{"a":' * 100_000),
    "UTF-16": content('{"a": 1}'.encode("utf-16")),
    "many digits": content('{"vocab_size": ' + "9" * 5000 + "}"),
    "missing": missing,
    "folder": folder,
    "pipe": pipe,
    "link to itself": link_to_itself,
}
BINARY_DAMAGES: dict[str, Damage] = {
    "empty": content(""),
    "half": half,
    "noise": noise,
    "zeros": zeros,
    "text": content("hello\n"),
    "missing": missing,
    "folder": folder,
    "pipe": pipe,
    "link to itself": link_to_itself,
}
YAML_DAMAGES: dict[str, Damage] = {
    "empty": content(""),
    "a list": content("- a\n- b\n"),
    "a word": content("word\n"),
    "a number": content("17\n"),
    "only a comment": content("# nothing\n"),
    "a bracket": content("run_dir: [\n"),
    "a tab": content("data:\n\ttrain: x\n"),
    "zeros": zeros,
    "noise": noise,
    "NUL": content("run_dir: x\0y\n"),
    "escape": content("run_dir: \x1b[31mred\n"),
    "UTF-16": content("run_dir: x\n".encode("utf-16")),
    "deep": content(DEEP),
    "deep fields": content("{a: " * 50_000),
    "two documents": content("run_dir: x\n---\nrun_dir: y\n"),
    "contains itself": content("run_dir: &a [*a]\n"),
    "fields that contain themselves": content("data: &a {train: *a}\n"),
    "merges itself": content("data: &a {<<: *a, train: x}\n"),
    "explodes": content(
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]\n" for m, n in zip("abcdefghij", "bcdefghijk", strict=True))
    ),
    "unknown anchor": content("run_dir: *nowhere\n"),
    "runs code": content("run_dir: !!python/object/apply:os.system ['touch pwned']\n"),
    "names a class": content("data: {class_path: os.system, init_args: {command: touch pwned}}\n"),
    "strange tag": content("run_dir: !strange x\n"),
    "a list for a key": content("? [a, b]\n: x\n"),
    "a mapping for a key": content("? {a: b}\n: x\n"),
    "a number for a key": content("1: x\n"),
    "null for a key": content("null: x\n"),
    "many digits": content("run_dir: x\nseed: " + "9" * 5000 + "\n"),
    "a wrong date": content("run_dir: 2001-99-99\n"),
    "missing": missing,
    "folder": folder,
    "pipe": pipe,
    "link to itself": link_to_itself,
}
