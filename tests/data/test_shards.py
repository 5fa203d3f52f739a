"""Token shards: what is written is what was encoded, and half of it never looks like all of it."""

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

from transformer_zoo.data import Piece, TextFiles, TokenShards, prepare_shards, tokenizing, write_shards
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import ByteTokenizer, CharacterTokenizer, WordTokenizer

DOCUMENTS = [f"document {i}\n" + "é" * (i % 13) for i in range(101)]
BYTES = ByteTokenizer()
EXPECTED = [i for document in DOCUMENTS for i in [*document.encode(), 256]]


@pytest.mark.parametrize("shard_tokens", [97, 10**6])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_tokens_of_all_documents_in_order(shard_tokens, workers, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizing, "_GROUP", 59)
    made = write_shards(DOCUMENTS, BYTES, tmp_path, "train", shard_tokens=shard_tokens, workers=workers)
    assert made.take(np.arange(0, made.n_tokens)).tolist() == EXPECTED
    assert made.take(np.arange(0, 1)).dtype == np.uint16
    assert (made.n_tokens, made.n_documents, made.eos_id) == (len(EXPECTED), 101, 256)
    assert made.n_bytes == sum(len(document.encode()) for document in DOCUMENTS)
    assert len(list(tmp_path.glob("train-*.bin"))) == -(-len(EXPECTED) // shard_tokens)
    for start, stop in ((0, 1), (96, 97), (96, 98), (97, 98), (90, 500), (made.n_tokens - 1, made.n_tokens)):
        assert made.take(np.arange(start, stop)).tolist() == EXPECTED[start:stop]
    places = np.arange(made.n_tokens).reshape(-1, 1)[::-3] - [[0, 1, 40]]
    assert made.take(places % made.n_tokens).tolist() == np.array(EXPECTED)[places].tolist()
    assert made.take(places % made.n_tokens).dtype == np.uint16
    made.verify()
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.suffix != ".bin") == [".json"]


def test_a_document_in_pieces_has_one_end(tmp_path):
    pieces = [Piece("ab", last=False), Piece("c", last=True), Piece("", last=False), Piece("d", last=True)]
    made = write_shards(pieces, BYTES, tmp_path, "val")
    assert made.take(np.arange(0, made.n_tokens)).tolist() == [97, 98, 99, 256, 100, 256]
    assert made.n_documents == 2


def test_a_document_begins_with_what_its_tokenizer_starts_a_text_with(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizing, "_GROUP", 2)
    monkeypatch.setattr(ByteTokenizer, "start_ids", (7, 11))
    pieces = [Piece("ab", last=False), Piece("cd", last=False), Piece("e"), Piece("fgh"), Piece("i")]
    made = write_shards(pieces, ByteTokenizer(), tmp_path, "val")
    documents = [[7, 11, *text.encode(), 256] for text in ("abcde", "fgh", "i")]
    wanted = [i for document in documents for i in document]
    assert made.take(np.arange(0, made.n_tokens)).tolist() == wanted


def test_without_end_of_text_documents_follow_each_other(tmp_path):
    made = write_shards(["ab", "ba"], CharacterTokenizer("ab", end_of_text=False), tmp_path, "val")
    assert made.take(np.arange(0, 4)).tolist() == [0, 1, 1, 0]
    assert (made.n_tokens, made.eos_id) == (4, None)


def test_a_large_vocabulary_takes_four_bytes(tmp_path):
    words = WordTokenizer([str(i) for i in range(70_001)])
    made = write_shards(["70000 0"], words, tmp_path, "val")
    assert made.take(np.arange(0, 3)).tolist() == [70002, 2, 70003]
    assert made.take(np.arange(0, 3)).dtype == np.uint32


def test_the_header_names_tokenizer_count_and_checksum(tmp_path):
    write_shards(["abc"], BYTES, tmp_path, "val")
    content = (tmp_path / "val-00000.bin").read_bytes()
    header = json.loads(content[:512])
    assert content[512:] == np.array([97, 98, 99, 256], "<u2").tobytes()
    assert (header["tokenizer"], header["count"], header["dtype"]) == (BYTES.fingerprint, 4, "uint16")
    assert content[511:512] == b"\n"


def test_another_tokenizer_is_refused(tmp_path):
    write_shards(["abc"], BYTES, tmp_path, "val")
    with pytest.raises(UserError, match=r"val\.json: tokenized with bytes \(257\), .* the tokenizer is characters"):
        TokenShards(tmp_path, "val", CharacterTokenizer("abc"))
    with pytest.raises(UserError, match="no tokens of a split 'train' here"):
        TokenShards(tmp_path, "train", BYTES)


@pytest.mark.parametrize("damage", ["short", "long", "header", "gone", "other"])
def test_damaged_files_are_refused_by_name(damage, tmp_path):
    write_shards(["abc" * 211], BYTES, tmp_path, "val", shard_tokens=101)
    path = tmp_path / "val-00001.bin"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "other":
        path.write_bytes((tmp_path / "val-00002.bin").read_bytes())
    else:
        path.write_bytes({"short": content[:-1], "long": content + b"x", "header": b"x" + content[1:]}[damage])
    with pytest.raises(UserError, match=r"val-00001\.bin: (damaged|cannot be read)"):
        TokenShards(tmp_path, "val")


def test_verify_finds_a_changed_token(tmp_path):
    made = write_shards(["abc" * 211], BYTES, tmp_path, "val", shard_tokens=101)
    path = tmp_path / "val-00003.bin"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"val-00003\.bin is damaged.*\(checksum\)"):
        TokenShards(tmp_path, "val").verify()
    assert made.n_tokens == 634


def test_what_cannot_be_spelled_is_named_with_file_and_line(tmp_path):
    (tmp_path / "a.txt").write_text("ab\nba\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("ab\n\nb?\na?\n", encoding="utf-8")
    files = TextFiles(path=[str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/b.txt:3: character '?'")):
        write_shards(files.pieces(), CharacterTokenizer("ab\n"), tmp_path / "out", "val")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(UserError, match="document 2:1: character"):
        write_shards(["ab", "?"], CharacterTokenizer("ab"), tmp_path / "out", "val")


def test_a_failure_midway_leaves_the_old_split(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizing, "_GROUP", 7)

    def documents() -> Iterator[str]:
        yield from DOCUMENTS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(documents(), BYTES, tmp_path, "train", shard_tokens=101)
    assert list(tmp_path.iterdir()) == []
    write_shards(["old"], BYTES, tmp_path, "train")
    with pytest.raises(KeyboardInterrupt):
        write_shards(documents(), BYTES, tmp_path, "train", shard_tokens=101)
    assert TokenShards(tmp_path, "train").n_bytes == 3
    assert len(list(tmp_path.iterdir())) == 2
    for nothing, tokenizer in (([], BYTES), ([""], BYTES), (["  "], WordTokenizer(["a"], end_of_text=False))):
        with pytest.raises(UserError, match="train: there is no text"):
            write_shards(nothing, tokenizer, tmp_path, "train")
    assert TokenShards(tmp_path, "train").n_bytes == 3


def test_a_new_split_replaces_all_of_the_old_one_and_nothing_else(tmp_path):
    write_shards(DOCUMENTS, BYTES, tmp_path, "val", shard_tokens=101)
    write_shards(["other"], BYTES, tmp_path, "val-00")
    made = write_shards(["new"], BYTES, tmp_path, "val")
    assert made.n_tokens == 4
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"val.json", "val-00000.bin", "val-00.json", "val-00-00000.bin"}


def test_a_killed_call_leaves_no_split_and_is_cleaned_up(tmp_path, root):
    text, others = tmp_path / "a.txt", {"train-00000.bin.part", ".x.part", ".lock"}
    text.write_text("abc", encoding="utf-8")
    tmp_path = tmp_path / "tokens"
    tmp_path.mkdir()
    for name in others:
        (tmp_path / name).write_text("somebody's own")
    code = (
        "import sys, time\nfrom transformer_zoo.data import tokenizing, write_shards\n"
        "from transformer_zoo.tokenizers import ByteTokenizer\n"
        "tokenizing._GROUP = 7\n"
        "def documents():\n    while True:\n        time.sleep(0.001); yield 'some text'\n"
        f"write_shards(documents(), ByteTokenizer(), {str(tmp_path)!r}, 'train', shard_tokens=97, workers=1)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)})
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 6 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(list(tmp_path.iterdir())) >= 6
    with pytest.raises(UserError, match="no tokens of a split 'train'"):
        TokenShards(tmp_path, "train")
    prepare_shards(TextFiles(path=str(text)), BYTES, tmp_path, "train")
    assert {path.name for path in tmp_path.iterdir()} == {"train.json", "train-00000.bin", *others}
    assert all((tmp_path / name).read_text() == "somebody's own" for name in others)


def test_shards_are_made_once_for_the_same_text(tmp_path: Path):
    source = tmp_path / "a.txt"
    source.write_text("abc", encoding="utf-8")
    files = TextFiles(path=str(source))
    first = prepare_shards(files, BYTES, tmp_path / "out", "train")
    made = (tmp_path / "out" / "train.json").stat().st_mtime_ns
    assert prepare_shards(files, BYTES, tmp_path / "out", "train").stamp == first.stamp
    assert (tmp_path / "out" / "train.json").stat().st_mtime_ns == made
    damaged = tmp_path / "out" / "train-00000.bin"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.warns(UserWarning, match=r"train-00000\.bin is damaged.*that is done now"):
        again = prepare_shards(files, BYTES, tmp_path / "out", "train")
    assert again.take(np.arange(again.n_tokens)).tolist() == [97, 98, 99, 256]
    others = prepare_shards(files, CharacterTokenizer("abc"), tmp_path / "out", "train")
    assert others.take(np.arange(3)).tolist() == [0, 1, 2]
    source.write_text("abcd", encoding="utf-8")
    assert prepare_shards(files, BYTES, tmp_path / "out", "train").n_tokens == 5


@pytest.mark.parametrize("name", ["train.json", "train-00000.bin"])
def test_what_is_no_file_of_tokens_is_never_overwritten(tmp_path: Path, name: str):
    text = tmp_path / name
    text.write_text('{"text": "some text"}\n', encoding="utf-8")
    files = TextFiles(path=str(text), jsonl_key="text")
    with pytest.raises(UserError, match=f"{name} is in the way of tokens"):
        prepare_shards(files, BYTES, tmp_path, "train")
    assert text.read_text(encoding="utf-8") == '{"text": "some text"}\n'
    assert {path.name for path in tmp_path.iterdir()} == {name, ".lock"}


def test_reading_ahead_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizing, "_GROUP", 1)
    taken = written = 0

    def documents() -> Iterator[str]:
        nonlocal taken
        for _ in range(211):
            taken += 1
            assert taken - written <= 2 * 2 + 2
            yield "ab"

    def count(self, tokens):
        nonlocal written
        written += 1
        add(self, tokens)

    add = tokenizing._Writer.add
    monkeypatch.setattr(tokenizing._Writer, "add", count)
    write_shards(documents(), BYTES, tmp_path, "train", workers=2)
    assert (taken, written) == (211, 211)
