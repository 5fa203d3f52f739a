"""Reading parallel text from people's files, and cleaning it with a report."""

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from transformer_zoo.data import Cleaning, ParallelFiles, ParallelText, clean, parallel, read_parallel
from transformer_zoo.data.parallel import read_lines, read_parts
from transformer_zoo.errors import UserError

SOURCE = ["a cat", "two dogs", "", "the end"]
TARGET = ["eine Katze", "zwei Hunde", "x", "das Ende"]


def write(path: Path, content: bytes) -> str:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_three_forms_hold_the_same_pairs(suffix, tmp_path):
    pairs = list(zip(SOURCE, TARGET, strict=True))
    rows = [{"id": 1, "translation": {"en": s, "de": t}} for s, t in pairs]
    forms = [
        ParallelFiles(
            source=write(tmp_path / f"en{suffix}", "\n".join(SOURCE).encode() + b"\n"),
            target=write(tmp_path / f"de{suffix}", "\n".join(TARGET).encode() + b"\n"),
        ),
        ParallelFiles(
            tsv=write(tmp_path / f"tsv{suffix}", "\n".join(f"{t}\tnote\t{s}" for s, t in pairs).encode()),
            source_column=3,
            target_column=1,
        ),
        ParallelFiles(
            jsonl=write(tmp_path / f"jsonl{suffix}", "\n".join(map(json.dumps, rows)).encode()),
            source_key="translation.en",
            target_key="translation.de",
        ),
    ]
    for files in forms:
        text = read_parallel(files)
        assert (text.source, text.target) == (SOURCE, TARGET)
        assert text.line_numbers.tolist() == [1, 2, 3, 4]


def test_only_newlines_end_a_line(tmp_path):
    content = "\ufeffa\u2028b\r\nc\x0bd\x85e\r \nf\rg\n\nlast".encode()
    for name in ("t", "t.gz"):
        lines = list(read_lines(write(tmp_path / name, content)))
        assert lines == ["a\u2028b", "c\x0bd\x85e\r ", "f\rg", "", "last"]


def test_a_byte_order_mark_is_dropped_at_the_start_only(tmp_path):
    path = write(tmp_path / "t", "\ufeffa\n\ufeffb\n".encode())
    assert list(read_lines(path)) == ["a", "\ufeffb"]


def test_further_references_stay_with_their_lines(tmp_path):
    more = [write(tmp_path / f"more{k}", f"{k}a\n{k}b\n\n{k}d\n".encode()) for k in (1, 2)]
    tsv = write(tmp_path / "tsv", "".join(f"{s}\t{t}\n" for s, t in zip(SOURCE, TARGET, strict=True)).encode())
    text = read_parallel(ParallelFiles(tsv=tsv, references=more))
    assert text.references == [TARGET, ["1a", "1b", "", "1d"], ["2a", "2b", "", "2d"]]
    kept, _ = clean(text, Cleaning())
    assert kept.references == [[*TARGET[:2], TARGET[3]], ["1a", "1b", "1d"], ["2a", "2b", "2d"]]


def test_further_references_of_different_length(tmp_path):
    files = {name: write(tmp_path / name, b"x\n" * n) for name, n in (("src", 3), ("ref", 3), ("ref2", 3), ("ref3", 2))}
    given = ParallelFiles(source=files["src"], target=files["ref"], references=[files["ref2"], files["ref3"]])
    with pytest.raises(UserError, match=r"ref2 has 3 lines and .*ref3 has 2"):
        read_parallel(given)
    given.references = [files["ref3"]]
    with pytest.raises(UserError, match=r"src and .*ref has 3 lines and .*ref3 has 2"):
        read_parallel(given)


def test_files_of_different_length(tmp_path):
    source = write(tmp_path / "en", b"a\nb\nc")
    target = write(tmp_path / "de", b"a\nb\n")
    with pytest.raises(UserError, match=r"en has 3 lines and .*de has 2;"):
        read_parallel(ParallelFiles(source=source, target=target))


@pytest.mark.parametrize("name", ["latin1.txt", "latin1.txt.gz"])
def test_text_that_is_not_utf8_names_file_and_line(name, tmp_path):
    path = write(tmp_path / name, "gut\ngrün\n".encode("latin-1"))
    with pytest.raises(UserError, match=rf"{re.escape(path)}:2: not UTF-8"):
        list(read_lines(path))


def test_unreadable_files_are_one_line(tmp_path):
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b"a line\n" * 1009)[:-9])
    fake = tmp_path / "fake.gz"
    fake.write_bytes(b"plain text\n")
    damaged = tmp_path / "damaged.gz"
    content = bytearray(gzip.compress(bytes(range(256)) * 97))
    content[20:40] = b"\xff" * 20
    damaged.write_bytes(content)
    for path, message in (
        (cut, "cut.gz: broken gzip file"),
        (fake, "fake.gz: broken gzip file after line 0"),
        (damaged, "damaged.gz: broken gzip file"),
        (tmp_path / "none", "none: no such file"),
        (tmp_path, r"cannot be read \(is a folder"),
        ("a\0b", "not a file name"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            list(read_lines(path))
        assert "\n" not in str(caught.value)


def test_a_pipe_is_refused_if_it_has_a_name_and_read_if_a_shell_made_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: cannot be read \(is a named pipe"):
        list(read_lines(tmp_path / "pipe"))
    out, into = os.pipe()
    os.write(into, b"a\nb\n")
    os.close(into)
    assert list(read_lines(f"/dev/fd/{out}")) == ["a", "b"]
    os.close(out)


@pytest.mark.parametrize("letter", ["a", "é", "你"])
def test_a_line_without_end_is_refused_and_not_kept(letter, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "_LONGEST_LINE", 1 << 16)
    for name in ("t", "t.gz"):
        path = write(tmp_path / name, b"short\n" + (letter * (1 << 18)).encode())
        with pytest.raises(UserError, match=f"{name}:2: a line above"):
            list(read_lines(path))
    whole = [letter * 20_000, "", letter]
    assert list(read_lines(write(tmp_path / "u", "\n".join(whole).encode()))) == whole


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 1 << 20])
def test_parts_make_up_the_lines(size, tmp_path):
    text = "añ你🙂b\r\n\n🙂🙂🙂🙂\nlast é"
    found = list(read_parts(write(tmp_path / "t", "\ufeff".encode() + text.encode()), max(size, 3)))
    assert "".join(part for _, part in found) == text
    for number, line in enumerate(text.split("\n"), start=1):
        assert "".join(part for n, part in found if n == number).removesuffix("\n") == line


def test_an_empty_corpus(tmp_path):
    empty = write(tmp_path / "empty", b"")
    for files in (
        ParallelFiles(source=empty, target=empty),
        ParallelFiles(tsv=empty),
        ParallelFiles(jsonl=empty),
    ):
        with pytest.raises(UserError, match="empty: empty, no sentence pairs"):
            read_parallel(files)


def test_a_tsv_line_with_too_few_columns(tmp_path):
    path = write(tmp_path / "t.tsv", b"a\tb\tc\nd\te\n")
    with pytest.raises(UserError, match=r"t\.tsv:2: 2 columns, but column 3 is asked for"):
        read_parallel(ParallelFiles(tsv=path, target_column=3))


def test_blank_lines_of_a_table_are_empty_pairs(tmp_path):
    tsv = write(tmp_path / "t.tsv", b"a\tb\n\nc\td\n")
    jsonl = write(tmp_path / "t.jsonl", b'{"source": "a", "target": "b"}\n\n{"source": "c", "target": "d"}\n')
    for files in (ParallelFiles(tsv=tsv), ParallelFiles(jsonl=jsonl)):
        text = read_parallel(files)
        assert (text.source, text.target) == (["a", "", "c"], ["b", "", "d"])
        assert clean(text, Cleaning())[1].dropped["empty"].tolist() == [2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"source": "a"', "not JSON"),
        ('["a", "b"]', "not a JSON object"),
        ('{"source": "a"}', r"no key 'target'; here are 'source'"),
        ('{"source": "a", "target": null}', "'target' holds null, not text"),
        ('{"source": "a", "target": "\\ud800"}', "'target' is not valid Unicode"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_bad_json_lines_name_file_and_line(line, message, tmp_path):
    path = write(tmp_path / "t.jsonl", b'{"source": "a", "target": "b"}\n' + line.encode())
    with pytest.raises(UserError, match=rf"t\.jsonl:2: {message}"):
        read_parallel(ParallelFiles(jsonl=path))


def test_json_newlines_become_spaces_and_a_key_may_hold_a_dot(tmp_path):
    path = write(tmp_path / "t.jsonl", json.dumps({"a.b": "one\ntwo", "c": "x\r\ny"}).encode())
    text = read_parallel(ParallelFiles(jsonl=path, source_key="a.b", target_key="c"))
    assert (text.source, text.target) == (["one two"], ["x y"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (ParallelFiles(), "here is nothing"),
        (ParallelFiles(source="a"), "target is missing"),
        (ParallelFiles(target="a"), "source is missing"),
        (ParallelFiles(source="a", target="b", tsv="c"), "here is source and target and tsv"),
        (ParallelFiles(tsv="a", jsonl="b"), "here is tsv and jsonl"),
        (ParallelFiles(tsv="a", source_column=0), "source_column: 0 is not a column"),
    ],
)
def test_exactly_one_form(files, message):
    with pytest.raises(UserError, match=message):
        read_parallel(files)


def test_clean_counts_every_pair_once_and_keeps_the_order():
    source = ["a", "", "b", "a", " ", "c" * 31, "a", "b"]
    target = ["A", "x", "B", "A", "", "C" * 7, "other", "B"]
    text, report = clean(ParallelText(source, target, "t.tsv"), Cleaning(max_length_ratio=4.0))
    assert list(zip(text.source, text.target, strict=True)) == [("a", "A"), ("b", "B"), ("a", "other")]
    assert text.line_numbers.tolist() == [1, 3, 7]
    dropped = {why: lines.tolist() for why, lines in report.dropped.items() if len(lines)}
    assert dropped == {"empty": [2, 5], "length ratio": [6], "duplicate": [4, 8]}
    assert str(report) == (
        "t.tsv: kept 3 of 8 pairs; dropped 2 empty (lines 2, 5); dropped 1 length ratio (line 6); "
        "dropped 2 duplicate (lines 4, 8)"
    )


def test_clean_obeys_its_fields_and_spares_short_pairs():
    text = ParallelText(["a", "a", "c" * 31, "Hi."], ["A", "A", "C", "Guten Morgen"])
    kept, report = clean(text, Cleaning(drop_duplicates=False, max_length_ratio=0))
    assert kept is text
    assert report.n_dropped == 0
    assert str(report) == "parallel text: kept 4 of 4 pairs"
    kept, _ = clean(text, Cleaning(drop_duplicates=False, max_length_ratio=3.0))
    assert kept.line_numbers.tolist() == [1, 2, 4]


def test_the_report_shows_five_examples():
    text = ParallelText(["a"] * 1013, ["b"] * 1013)
    _, report = clean(text, Cleaning())
    assert str(report) == ("parallel text: kept 1 of 1,013 pairs; dropped 1,012 duplicate (lines 2, 3, 4, 5, 6, ...)")


def test_cleaning_twice_changes_nothing_and_keeps_the_first_line_numbers():
    once, _ = clean(ParallelText(["a", "", "b", "b"], ["A", "", "B", "B"]), Cleaning())
    twice, report = clean(once, Cleaning())
    assert twice is once
    assert report.n_dropped == 0
    assert once.select(np.array([1])).line_numbers.tolist() == [3]


def test_nothing_left_is_an_error():
    with pytest.raises(UserError, match=r"no pair is left to train on: .* dropped 2 empty \(lines 1, 2\)"):
        clean(ParallelText(["", "a"], ["b", " "]), Cleaning())


def test_sides_of_different_length_are_refused():
    with pytest.raises(UserError, match="2 source and 1 target"):
        ParallelText(["a", "b"], ["c"])
