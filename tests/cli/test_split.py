"""`transformer-zoo split`: pairs and text, in every form they come in, without leaks."""

import gzip
import json
from pathlib import Path

import pytest

from transformer_zoo.characters import bare
from transformer_zoo.cli import main
from transformer_zoo.data import ParallelFiles, read_parallel
from transformer_zoo.data.text import TextFiles

PAIRS = [(f"The {n}th train leaves.", f"Zug {n // 2} fährt ab.") for n in range(60)]
NAMES = ("train", "validation", "test")


def split(*arguments: object) -> int:
    return main(["split", *map(str, arguments), "--validation", "5", "--test", "7"])


def check(parts: dict[str, list[tuple[str, str]]]) -> None:
    """As many as asked for, each a pair of the corpus, and nothing shared."""
    assert (len(parts["validation"]), len(parts["test"])) == (5, 7)
    assert all(set(part) <= set(PAIRS) for part in parts.values())
    for side in (0, 1):
        seen = [{bare(pair[side]) for pair in part} for part in parts.values()]
        assert sum(map(len, seen)) == len(set().union(*seen))


def test_without_a_file_it_is_a_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["split"]) == 2
    assert "give the file" in capsys.readouterr().err


@pytest.mark.parametrize("zipped", [False, True])
def test_a_tsv_becomes_three(tmp_path: Path, capsys: pytest.CaptureFixture[str], zipped: bool) -> None:
    text = "".join(f"{source}\t{target}\n" for source, target in PAIRS).encode()
    path = tmp_path / ("pairs.tsv.gz" if zipped else "pairs.tsv")
    path.write_bytes(gzip.compress(text) if zipped else text)
    assert split(path) == 0
    parts = {}
    for name in NAMES:
        found = read_parallel(ParallelFiles(tsv=str(tmp_path / "pairs_split" / f"{name}.tsv")))
        parts[name] = list(zip(found.source, found.target, strict=True))
    check(parts)
    said = capsys.readouterr().out
    assert f"train {len(parts['train'])}, test 7, validation 5 pairs" in said
    left_out = len(PAIRS) - sum(map(len, parts.values()))
    assert f"left out: {left_out} with a side that is held out" in said


@pytest.mark.parametrize("names", [("a.en", "a.de"), ("english.txt", "german.txt"), ("english", "german")])
def test_two_aligned_files_become_six(tmp_path: Path, names: tuple[str, str]) -> None:
    for side, name in enumerate(names):
        (tmp_path / name).write_text("".join(pair[side] + "\n" for pair in PAIRS), "utf-8")
    assert split(*(tmp_path / name for name in names), "--output", tmp_path / "out") == 0
    ends = (".en", ".de") if names[0] == "a.en" else (".source", ".target")
    parts = {}
    for name in NAMES:
        sides = [(tmp_path / "out" / f"{name}{end}").read_text("utf-8").splitlines() for end in ends]
        parts[name] = list(zip(*sides, strict=True))
    check(parts)


def test_json_lines_of_pairs(tmp_path: Path) -> None:
    rows = [{"translation": {"en": source, "de": target}} for source, target in PAIRS]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert split(tmp_path / "p.jsonl", "--source-key", "translation.en", "--target-key", "translation.de") == 0
    parts = {}
    for name in NAMES:
        found = read_parallel(ParallelFiles(jsonl=str(tmp_path / "p_split" / f"{name}.jsonl")))
        parts[name] = list(zip(found.source, found.target, strict=True))
    check(parts)


DOCUMENTS = [f"Document {n}.\nIt has two lines." for n in range(40)]


@pytest.mark.parametrize("form", ["folder", "jsonl", "separator"])
def test_documents_of_text(tmp_path: Path, form: str) -> None:
    """Copies of a held-out document, in capitals too, are on its side; blank ones are left out."""
    documents = [*DOCUMENTS, *map(str.upper, DOCUMENTS), " \n\u200b"]
    path, options = tmp_path / "text", []
    if form == "folder":
        path.mkdir()
        for n, document in enumerate(documents):
            (path / f"{n:03d}.txt").write_text(document, "utf-8")
    elif form == "jsonl":
        path = tmp_path / "text.jsonl"
        path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents), "utf-8")
    else:
        path.write_text("\n<|end|>\n".join(documents), "utf-8")
        options = ["--separator", "<|end|>"]
    assert split(path, *options) == 0
    parts = {
        name: [text.strip() for text in TextFiles(path=str(tmp_path / "text_split" / f"{name}.jsonl")).documents()]
        for name in NAMES
    }
    assert (len(parts["validation"]), len(parts["test"])) == (5, 7)
    seen = [set(map(bare, part)) for part in parts.values()]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert parts["train"] == [text for text in documents if text in parts["train"]]  # in the order they had


@pytest.mark.parametrize(("unit", "joint"), [("line", "\n"), ("paragraph", "\n\n")])
def test_lines_and_paragraphs_of_one_text(tmp_path: Path, unit: str, joint: str) -> None:
    (tmp_path / "book.txt").write_text(joint.join(DOCUMENTS), "utf-8")
    assert split(tmp_path / "book.txt", "--unit", unit) == 0
    parts = {
        name: (tmp_path / "book_split" / f"{name}.txt").read_text("utf-8").rstrip("\n").split(joint) for name in NAMES
    }
    pieces = "\n".join(DOCUMENTS).split("\n") if unit == "line" else DOCUMENTS
    assert all(piece in pieces for part in parts.values() for piece in part)
    assert (len(parts["validation"]), len(parts["test"])) == (5, 7)
    assert not set(parts["train"]) & {*parts["validation"], *parts["test"]}


def test_what_is_there_already_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.tsv").write_text("".join(f"{s}\t{t}\n" for s, t in PAIRS), "utf-8")
    (tmp_path / "pairs_split").mkdir()
    (tmp_path / "pairs_split" / "mine").write_text("x")
    assert split(tmp_path / "pairs.tsv") == 1
    assert "there is something already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "pairs_split").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--test", "-1"], 2, "--test -1: give a whole number, or a share below 1"),
        (["--test", "1.5"], 2, "--test 1.5: give a whole number"),
        (["--test", "0.1", "--validation", "5"], 2, "give both as numbers, or both as shares"),
        (["--test", "0", "--validation", "0"], 2, "nothing to hold out"),
        (["--test", "61", "--validation", "0"], 1, "test: 60 can be held out of 60, not 61"),
        (["--unit", "line"], 2, "--separator and --unit are for text"),
        (["--source-key", "a"], 2, "--source-key and --target-key go together"),
        (["--source-column", "5", "--test", "2"], 1, "pairs.tsv:1: 2 columns, but column 5 is asked for"),
    ],
)
def test_mistakes_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    (tmp_path / "pairs.tsv").write_text("".join(f"{s}\t{t}\n" for s, t in PAIRS), "utf-8")
    assert main(["split", str(tmp_path / "pairs.tsv"), *arguments]) == status
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "pairs_split").exists()


def test_a_text_that_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "book.txt").write_text("One.\n\nTwo.\n")
    assert split(tmp_path / "book.txt") == 1
    assert "a single document; give --separator, or a smaller --unit" in capsys.readouterr().err
