"""Plain text as documents: what is a document, what is refused, and where."""

import gzip
import json
import re
from pathlib import Path

import pytest

from transformer_zoo.data import Piece, TextFiles, text
from transformer_zoo.errors import UserError


def put(path: Path, content: bytes | str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_file_is_a_document_as_it_is(name, tmp_path):
    path = put(tmp_path / name, "\ufefffirst\r\n\n  second\u2028x\x0c\nlast")
    assert list(TextFiles(path=path).pieces()) == [Piece("first\r\n\n  second\u2028x\x0c\nlast", True, path, 1)]


def test_a_folder_is_its_files_in_order_without_hidden_ones(tmp_path):
    for name in ("b.txt", "a/z.md", "a/.hidden", ".git/x", "c.jsonl"):
        put(tmp_path / name, '{"text": "c.jsonl"}' if name == "c.jsonl" else name)
    assert list(TextFiles(path=str(tmp_path)).texts()) == ["a/z.md", "b.txt", "c.jsonl"]
    assert list(TextFiles(path=[str(tmp_path / "b.txt"), f"{tmp_path}/**/*.md"]).texts()) == ["b.txt", "a/z.md"]


def test_json_lines(tmp_path):
    rows = [{"text": "one\ntwo", "meta": {"body": "x"}}, {"text": "three", "meta": {"body": "y"}}]
    content = "\n\n".join(map(json.dumps, rows))
    path = put(tmp_path / "a.jsonl.gz", content)
    assert [(piece.text, piece.line) for piece in TextFiles(path=path).pieces()] == [("one\ntwo", 1), ("three", 3)]
    other = put(tmp_path / "a.data", content)
    assert list(TextFiles(path=other, jsonl_key="meta.body").texts()) == ["x", "y"]


def test_a_separator_line_parts_documents_and_blank_ones_are_left_out(tmp_path):
    path = put(tmp_path / "a", "one\n<s>\n\n<s>\n<s>\r\ntwo <s>\nstill two\n<s>\n")
    assert [(p.text, p.line) for p in TextFiles(path=path, separator="<s>").pieces()] == [
        ("one\n", 1),
        ("two <s>\nstill two\n", 6),
    ]


def test_a_long_document_comes_in_pieces_that_make_it_up(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_PIECE", 53)
    words = [f"word{i}x{'.' * (i % 3)}" + ("\n" if i % 7 == 0 else " " * (1 + i % 2)) for i in range(499)]
    whole, last = "".join(words) + "\n", "x\n"
    files = TextFiles(path=put(tmp_path / "a", whole + "<s>\n" + last), separator="<s>")
    pieces = list(files.pieces())
    assert len(pieces) > 20
    assert any(p.text[-1] == "x" for p in pieces)  # cut inside a line
    assert [p.last for p in pieces].count(True) == 2
    assert list(files.documents()) == [whole, last]
    assert "".join(files.texts()) == whole + last
    for number, piece in enumerate(pieces[:-1]):
        before = "".join(p.text for p in pieces[:number])
        assert piece.line == 1 + before.count("\n")
    assert pieces[-1].line == whole.count("\n") + 2


def test_a_document_that_ends_where_it_was_cut_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_PIECE", 3)
    files = TextFiles(path=put(tmp_path / "a", "1234\n<s>\n5\n"), separator="<s>")
    assert [(p.text, p.last) for p in files.pieces()] == [("1234\n", False), ("", True), ("5\n", True)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\ngr\xfcn\n", ":2: not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"txt": "y"}\n', ":2: no key 'text'; here are 'txt'"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}\n', ":2: 'text' holds a number, not text"),
        ("a.jsonl", b'{"text": "x"\n', ":1: not JSON"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', ":1: 'text' is not valid Unicode"),
        ("a.txt", b" \n\n", ": no text here"),
    ],
)
def test_bad_input_is_one_line_with_its_place(name, content, message, tmp_path):
    path = put(tmp_path / name, content)
    with pytest.raises(UserError, match=re.escape(path + message)) as error:
        list(TextFiles(path=path).pieces())
    assert "\n" not in str(error.value)


def test_a_path_that_names_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, message in (("none.txt", "no such file"), ("*.md", "no such file"), ("empty", "no files in")):
        with pytest.raises(UserError, match=message):
            TextFiles(path=str(tmp_path / name)).files()


def test_a_place_inside_a_folder_of_text_is_found(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "a.txt").write_text("a")
    files = TextFiles(path=[str(tmp_path / "a.txt"), str(tmp_path / "text")])
    assert files.folder_around(tmp_path / "text" / "runs" / "x") == str(tmp_path / "text")
    assert files.folder_around(tmp_path / "runs") is None
    for nothing in ("", []):
        with pytest.raises(UserError, match="path is empty"):
            TextFiles(path=nothing).files()


def test_the_stamp_changes_with_files_and_settings(tmp_path):
    path = put(tmp_path / "a", "one\n")
    stamps = [TextFiles(path=path).stamp(), TextFiles(path=path, separator="x").stamp()]
    assert TextFiles(path=path).stamp() == stamps[0]
    put(tmp_path / "a", "longer\n")
    assert len({*stamps, TextFiles(path=path).stamp()}) == 3


def test_size_is_known_for_plain_files_only(tmp_path):
    assert TextFiles(path=put(tmp_path / "a", "one\n")).n_bytes() == 4
    assert TextFiles(path=put(tmp_path / "a.gz", "one\n")).n_bytes() is None


@pytest.mark.parametrize("name", ["one.txt", "one.txt.gz"])
def test_text_on_one_line_streams_as_other_text(name, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_PIECE", 1 << 10)
    monkeypatch.setattr(text, "_PART", 1 << 10)
    whole = "".join(f"wörd {i} " for i in range(10_000))
    put(tmp_path / name, whole)
    pieces = list(TextFiles(path=str(tmp_path / name), separator="wörd").pieces())
    assert "".join(piece.text for piece in pieces) == whole
    assert max(len(piece.text) for piece in pieces) <= 2 << 10
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert {piece.line for piece in pieces} == {1}
    assert all(piece.text[-1].isalpha() for piece in pieces[:-1])  # where no token goes across
