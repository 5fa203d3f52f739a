"""Tokens on the disk: what is written is what was encoded, and half of it never looks like all of it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from transformer_zoo.data import Piece, TextFiles, TokenFile, prepare_tokens, token_file, write_tokens
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import ByteTokenizer, CharacterTokenizer, WordTokenizer

DOCUMENTS = [f"document {i}\n" + "é" * (i % 13) for i in range(101)]
BYTES = ByteTokenizer()
EXPECTED = [i for document in DOCUMENTS for i in [*document.encode(), 256]]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_tokens_of_all_documents_in_order(workers, tmp_path, monkeypatch):
    monkeypatch.setattr(token_file, "_GROUP", 59)
    made = write_tokens(DOCUMENTS, BYTES, tmp_path, "train", workers=workers)
    assert made.take(np.arange(0, made.n_tokens)).tolist() == EXPECTED
    assert made.take(np.arange(0, 1)).dtype == np.uint16
    assert (made.n_tokens, made.n_documents, made.eos_id) == (len(EXPECTED), 101, 256)
    assert made.n_bytes == sum(len(document.encode()) for document in DOCUMENTS)
    for start, stop in ((0, 1), (96, 97), (96, 98), (97, 98), (90, 500), (made.n_tokens - 1, made.n_tokens)):
        assert made.take(np.arange(start, stop)).tolist() == EXPECTED[start:stop]
    places = np.arange(made.n_tokens).reshape(-1, 1)[::-3] - [[0, 1, 40]]
    assert made.take(places % made.n_tokens).tolist() == np.array(EXPECTED)[places].tolist()
    assert made.take(places % made.n_tokens).dtype == np.uint16
    made.verify()
    assert [path.name for path in tmp_path.iterdir()] == ["train.bin"]


def test_a_document_in_pieces_has_one_end(tmp_path):
    pieces = [Piece("ab", last=False), Piece("c", last=True), Piece("", last=False), Piece("d", last=True)]
    made = write_tokens(pieces, BYTES, tmp_path, "val")
    assert made.take(np.arange(0, made.n_tokens)).tolist() == [97, 98, 99, 256, 100, 256]
    assert made.n_documents == 2


def test_a_document_begins_with_what_its_tokenizer_starts_a_text_with(tmp_path, monkeypatch):
    monkeypatch.setattr(token_file, "_GROUP", 2)
    monkeypatch.setattr(ByteTokenizer, "start_ids", (7, 11))
    pieces = [Piece("ab", last=False), Piece("cd", last=False), Piece("e"), Piece("fgh"), Piece("i")]
    made = write_tokens(pieces, ByteTokenizer(), tmp_path, "val")
    documents = [[7, 11, *text.encode(), 256] for text in ("abcde", "fgh", "i")]
    wanted = [i for document in documents for i in document]
    assert made.take(np.arange(0, made.n_tokens)).tolist() == wanted


def test_without_end_of_text_documents_follow_each_other(tmp_path):
    made = write_tokens(["ab", "ba"], CharacterTokenizer("ab", end_of_text=False), tmp_path, "val")
    assert made.take(np.arange(0, 4)).tolist() == [0, 1, 1, 0]
    assert (made.n_tokens, made.eos_id) == (4, None)


def test_a_large_vocabulary_takes_four_bytes(tmp_path):
    words = WordTokenizer([str(i) for i in range(70_001)])
    made = write_tokens(["70000 0"], words, tmp_path, "val")
    assert made.take(np.arange(0, 3)).tolist() == [70002, 2, 70003]
    assert made.take(np.arange(0, 3)).dtype == np.uint32


def test_the_header_names_tokenizer_count_and_checksum(tmp_path):
    write_tokens(["abc"], BYTES, tmp_path, "val")
    content = (tmp_path / "val.bin").read_bytes()
    header = json.loads(content[:1024])
    assert content[1024:] == np.array([97, 98, 99, 256], "<u2").tobytes()
    assert (header["tokenizer"], header["n_tokens"], header["dtype"]) == (BYTES.fingerprint, 4, "uint16")
    assert content[1023:1024] == b"\n"


def test_another_tokenizer_is_refused(tmp_path):
    write_tokens(["abc"], BYTES, tmp_path, "val")
    with pytest.raises(UserError, match=r"val\.bin: tokenized with bytes \(257\), .* the tokenizer is characters"):
        TokenFile(tmp_path, "val", CharacterTokenizer("abc"))
    with pytest.raises(UserError, match="no tokens of a split 'train' here"):
        TokenFile(tmp_path, "train", BYTES)


@pytest.mark.parametrize("damage", ["short", "long", "header", "gone", "deep"])
def test_a_damaged_file_is_refused_by_name(damage, tmp_path):
    write_tokens(["abc" * 211], BYTES, tmp_path, "val")
    path = tmp_path / "val.bin"
    content = path.read_bytes()
    changed = {"short": content[:-1], "long": content + b"x", "header": b"x" + content[1:], "deep": b"[" * 9999}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(changed[damage])
    with pytest.raises(UserError, match=r"no tokens of a split" if damage == "gone" else r"val\.bin: damaged"):
        TokenFile(tmp_path, "val")


@pytest.mark.parametrize("wrong", [None, "1", -1, 1.5, [], {}, True])
@pytest.mark.parametrize("name", ["n_tokens", "n_bytes", "n_documents", "eos_id", "dtype", "tokenizer", "format"])
def test_a_header_of_other_things_is_refused(name, wrong, tmp_path):
    """A stranger's file may say anything."""
    if (name, wrong) in (("eos_id", None), ("eos_id", -1), ("tokenizer", "1")):
        return
    write_tokens(["abc"], BYTES, tmp_path, "val")
    path = tmp_path / "val.bin"
    content = path.read_bytes()
    header = json.loads(content[:1024]) | {name: wrong}
    path.write_bytes(json.dumps(header).encode().ljust(1024) + content[1024:])
    with pytest.raises(UserError, match=r"val\.bin: damaged"):
        TokenFile(tmp_path, "val")


def test_verify_finds_a_changed_token(tmp_path):
    made = write_tokens(["abc" * 211], BYTES, tmp_path, "val")
    path = tmp_path / "val.bin"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"val\.bin is damaged.*\(checksum\)"):
        TokenFile(tmp_path, "val").verify()
    assert made.n_tokens == 634


def test_what_cannot_be_spelled_is_named_with_file_and_line(tmp_path):
    (tmp_path / "a.txt").write_text("ab\nba\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("ab\n\nb?\na?\n", encoding="utf-8")
    files = TextFiles(path=[str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/b.txt:3: character '?'")):
        write_tokens(files.pieces(), CharacterTokenizer("ab\n"), tmp_path / "out", "val")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(UserError, match="document 2:1: character"):
        write_tokens(["ab", "?"], CharacterTokenizer("ab"), tmp_path / "out", "val")


def test_a_failure_midway_leaves_the_old_split(tmp_path, monkeypatch):
    monkeypatch.setattr(token_file, "_GROUP", 7)

    def documents() -> Iterator[str]:
        yield from DOCUMENTS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tokens(documents(), BYTES, tmp_path, "train")
    assert list(tmp_path.iterdir()) == []
    write_tokens(["old"], BYTES, tmp_path, "train")
    with pytest.raises(KeyboardInterrupt):
        write_tokens(documents(), BYTES, tmp_path, "train")
    assert TokenFile(tmp_path, "train").n_bytes == 3
    assert len(list(tmp_path.iterdir())) == 1
    for nothing, tokenizer in (([], BYTES), ([""], BYTES), (["  "], WordTokenizer(["a"], end_of_text=False))):
        with pytest.raises(UserError, match="train: there is no text"):
            write_tokens(nothing, tokenizer, tmp_path, "train")
    assert TokenFile(tmp_path, "train").n_bytes == 3


def test_a_new_split_replaces_the_old_one_and_nothing_else(tmp_path):
    write_tokens(DOCUMENTS, BYTES, tmp_path, "val")
    write_tokens(["other"], BYTES, tmp_path, "val-00")
    made = write_tokens(["new"], BYTES, tmp_path, "val")
    assert made.n_tokens == 4
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"val.bin", "val-00.bin"}


def test_a_killed_call_leaves_no_split_and_is_cleaned_up(tmp_path, root):
    text, others = tmp_path / "a.txt", {"train.bin.part", ".x.part", ".lock"}
    text.write_text("abc", encoding="utf-8")
    tmp_path = tmp_path / "tokens"
    tmp_path.mkdir()
    for name in others:
        (tmp_path / name).write_text("somebody's own")
    code = (
        "import sys, time\nfrom transformer_zoo.data import token_file, write_tokens\n"
        "from transformer_zoo.tokenizers import ByteTokenizer\n"
        "token_file._GROUP = 7\n"
        "def documents():\n    while True:\n        time.sleep(0.001); yield 'some text'\n"
        f"write_tokens(documents(), ByteTokenizer(), {str(tmp_path)!r}, 'train', workers=1)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)})
    deadline = time.monotonic() + 60
    while sum(path.stat().st_size > 2048 for path in tmp_path.iterdir()) < 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(UserError, match="no tokens of a split 'train'"):
        TokenFile(tmp_path, "train")
    prepare_tokens(TextFiles(path=str(text)), BYTES, tmp_path, "train")
    assert {path.name for path in tmp_path.iterdir()} == {"train.bin", *others}
    assert all((tmp_path / name).read_text() == "somebody's own" for name in others)


def test_tokens_are_made_once_for_the_same_text(tmp_path: Path):
    source = tmp_path / "a.txt"
    source.write_text("abc", encoding="utf-8")
    files = TextFiles(path=str(source))
    first = prepare_tokens(files, BYTES, tmp_path / "out", "train")
    made = (tmp_path / "out" / "train.bin").stat().st_mtime_ns
    assert prepare_tokens(files, BYTES, tmp_path / "out", "train").stamp == first.stamp
    assert (tmp_path / "out" / "train.bin").stat().st_mtime_ns == made
    damaged = tmp_path / "out" / "train.bin"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.warns(UserWarning, match=r"train\.bin is damaged.*that is done now"):
        again = prepare_tokens(files, BYTES, tmp_path / "out", "train")
    assert again.take(np.arange(again.n_tokens)).tolist() == [97, 98, 99, 256]
    others = prepare_tokens(files, CharacterTokenizer("abc"), tmp_path / "out", "train")
    assert others.take(np.arange(3)).tolist() == [0, 1, 2]
    source.write_text("abcd", encoding="utf-8")
    assert prepare_tokens(files, BYTES, tmp_path / "out", "train").n_tokens == 5


def test_what_is_no_file_of_tokens_is_never_overwritten(tmp_path: Path):
    name = "train.bin"
    text = tmp_path / name
    text.write_text('{"text": "some text"}\n', encoding="utf-8")
    files = TextFiles(path=str(text), jsonl_key="text")
    with pytest.raises(UserError, match=f"{name} is in the way of tokens"):
        prepare_tokens(files, BYTES, tmp_path, "train")
    assert text.read_text(encoding="utf-8") == '{"text": "some text"}\n'
    assert {path.name for path in tmp_path.iterdir()} == {name, ".lock"}


def test_reading_ahead_is_bounded(monkeypatch):
    monkeypatch.setattr(token_file, "_GROUP", 1)
    taken = written = 0

    def documents() -> Iterator[str]:
        nonlocal taken
        for _ in range(211):
            taken += 1
            assert taken - written <= 2 * 2 + 2
            yield "ab"

    for _ in token_file._encoded(documents(), BYTES, np.dtype("<u2"), workers=2):
        written += 1
    assert (taken, written) == (211, 211)
