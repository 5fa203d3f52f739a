"""The scripts of plain text: the same splits from local files and from datasets of the hub's form."""

import gzip
import json
import subprocess
import sysconfig
import tokenize
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from transformer_zoo.data import TextFiles
from transformer_zoo.data.corpora import SEPARATOR, write_json_lines, write_text
from transformer_zoo.errors import UserError

Load = Callable[[str], ModuleType]
Read = Callable[[Path], dict[str, str]]
Run = Callable[..., subprocess.CompletedProcess[str]]


def put(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def put_rows(path: Path, texts: list[str]) -> Path:
    return put(path, "".join(json.dumps({"text": text, "id": i}) + "\n" for i, text in enumerate(texts)))


def test_python_source_is_the_library_split_by_path(load: Load, tmp_path: Path) -> None:
    python = load("python_source")
    library = Path(sysconfig.get_paths()["stdlib"])
    paths = python.modules(library)
    names = {path.as_posix() for path in paths}
    assert {"argparse.py", "json/decoder.py"} <= names
    assert not any("test" in Path(name).parts or "site-packages" in name for name in names)
    assert 5e6 < sum((library / path).stat().st_size for path in paths) < 15e6
    assert 0.05 < sum(map(python.is_val, paths)) / len(paths) < 0.2
    assert python.is_val(Path("json/tool.py")) == python.is_val(Path("json") / "tool.py")


def test_python_source_writes_every_file_once(load: Load, tmp_path: Path, read: Read) -> None:
    python = load("python_source")
    texts = {f"m{i}.py": f"x = {i}" for i in range(41)}
    for name, text in (texts | {"test/test_m.py": "no", "empty.py": "\n"}).items():
        put(tmp_path / "in" / name, text)
    (tmp_path / "in" / "latin.py").write_bytes("# coding: latin-1\n# é\n".encode("latin-1"))
    (tmp_path / "in" / "bad.py").write_bytes(b"# \xff\n")
    python.prepare(tmp_path / "in", out=tmp_path / "out")
    python.prepare(tmp_path / "in", out=tmp_path / "again")
    assert read(tmp_path / "out") == read(tmp_path / "again")
    documents = {
        split: list(TextFiles(path=str(tmp_path / "out" / f"{split}.txt"), separator=SEPARATOR).documents())
        for split in ("train", "val")
    }
    expected = [text + "\n" for text in texts.values()] + ["# coding: latin-1\n# é\n"]
    assert sorted(documents["train"] + documents["val"]) == sorted(expected)
    assert documents["val"] == [texts[name] + "\n" for name in sorted(texts) if python.is_val(Path(name))]


def test_python_source_of_this_interpreter_needs_no_network(run_script: Run, tmp_path: Path) -> None:
    done = run_script("python_source", "--out", tmp_path, before="sys.modules['datasets'] = None")
    assert done.returncode == 0, done.stderr
    with tokenize.open(sysconfig.get_paths()["stdlib"] + "/argparse.py") as file:
        source = file.read()
    assert source in (tmp_path / "train.txt").read_text(encoding="utf-8")
    assert (tmp_path / "val.txt").stat().st_size > 100_000


def test_a_folder_without_python_is_refused(load: Load, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Python files here"):
        load("python_source").prepare(tmp_path, out=tmp_path / "out")


def test_tinyshakespeare_is_cut_at_nine_tenths(load: Load, tmp_path: Path, read: Read) -> None:
    text = "".join(f"line {i}\r\n" if i % 5 else "é\n" for i in range(101))
    put(tmp_path / "in" / "input.txt", text)
    load("tinyshakespeare").prepare(tmp_path / "in", out=tmp_path / "out")
    files = read(tmp_path / "out")
    assert files["train.txt"] + files["val.txt"] == text
    assert len(files["train.txt"]) == len(text) * 9 // 10


def test_tinyshakespeare_that_is_another_text_is_refused(load: Load, tmp_path: Path) -> None:
    other = put(tmp_path / "input.txt", "a page of a proxy").as_uri()
    with pytest.raises(UserError, match="not Tiny Shakespeare as it used to be"):
        load("tinyshakespeare").prepare(url=other, out=tmp_path / "out")
    with pytest.raises(UserError, match=r"a local input\.txt can be given with --from DIR"):
        load("tinyshakespeare").prepare(url=(tmp_path / "none").as_uri(), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


WIKI = {"train": [" ", " = A = ", " ", " word <unk> @-@ word . "], "val": [" b ", " "], "test": [" c "]}
WIKI_FILES = {f"{split}.txt": "".join(line + "\n" for line in lines) for split, lines in WIKI.items()}


@pytest.mark.parametrize("names", ["{}.txt.gz", "wiki.{}.tokens"])
def test_wikitext_from_files(names: str, load: Load, tmp_path: Path, read: Read) -> None:
    for split in WIKI:
        put(tmp_path / "in" / names.format("valid" if split == "val" else split), WIKI_FILES[f"{split}.txt"])
    load("wikitext2").prepare(tmp_path / "in", out=tmp_path / "out")
    assert read(tmp_path / "out") == WIKI_FILES


@pytest.mark.usefixtures("hub_cache")
def test_wikitext_from_the_hub(load: Load, tmp_path: Path, read: Read) -> None:
    for config in ("wikitext-2-v1", "wikitext-2-raw-v1"):
        for split, lines in WIKI.items():
            rows = [
                "" if line == " " else line.replace("<unk>", "rare" if "raw" in config else "<unk>") + "\n"
                for line in lines
            ]
            put_rows(tmp_path / "hub" / config / f"{'validation' if split == 'val' else split}.jsonl", rows)
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {config}\n  data_files:\n"
        + "".join(f"  - split: {s}\n    path: {config}/{s}.jsonl\n" for s in ("train", "validation", "test"))
        for config in ("wikitext-2-v1", "wikitext-2-raw-v1")
    )
    put(tmp_path / "hub" / "README.md", card + "---\n")
    load("wikitext2").prepare(hub=str(tmp_path / "hub"), out=tmp_path / "out")
    assert read(tmp_path / "out") == WIKI_FILES
    load("wikitext2").prepare(hub=str(tmp_path / "hub"), raw=True, out=tmp_path / "raw")
    assert "rare" in read(tmp_path / "raw")["train.txt"]


def test_wikitext_names_what_is_missing(load: Load, tmp_path: Path) -> None:
    put(tmp_path / "train.txt", "a\n")
    with pytest.raises(UserError, match=r"none of valid\.txt, val\.txt, .* is there"):
        load("wikitext2").prepare(tmp_path, out=tmp_path / "out")


def test_books_from_joined_files(load: Load, tmp_path: Path, read: Read) -> None:
    train = f"# One\n\ntext\n{SEPARATOR}\n# Two\n{SEPARATOR}\n"
    put(tmp_path / "in" / "train.txt.gz", train)
    put(tmp_path / "in" / "val.txt", f"# Three\n{SEPARATOR}\n")
    load("books").prepare(tmp_path / "in", out=tmp_path / "out")
    assert read(tmp_path / "out") == {"train.txt": train, "val.txt": f"# Three\n{SEPARATOR}\n"}


def test_books_from_a_file_a_book(load: Load, tmp_path: Path, read: Read) -> None:
    books = [f"book {i}\n" for i in range(101)]
    for i, text in enumerate(books):
        put(tmp_path / "in" / f"author {i % 7}" / f"{i}.md", text)
    load("books").prepare(tmp_path / "in", out=tmp_path / "out")
    files = read(tmp_path / "out")
    split = {name: text.split(f"{SEPARATOR}\n")[:-1] for name, text in files.items()}
    assert sorted(split["train.txt"] + split["val.txt"]) == sorted(books)
    assert 1 <= len(split["val.txt"]) <= 15


@pytest.mark.usefixtures("hub_cache")
def test_books_from_the_hub_stop_where_told(load: Load, tmp_path: Path, read: Read) -> None:
    put_rows(tmp_path / "hub" / "train.jsonl", [f"book {i}\r\nend" for i in range(9)])
    put_rows(tmp_path / "hub" / "validation.jsonl", ["val"])
    load("books").prepare(books=2, hub=str(tmp_path / "hub"), out=tmp_path / "out")
    assert read(tmp_path / "out") == {
        "train.txt": f"book 0\r\nend\n{SEPARATOR}\nbook 1\r\nend\n{SEPARATOR}\n",
        "val.txt": f"val\n{SEPARATOR}\n",
    }


PAGES = [f"page {i}\n\nwith “signs”" for i in range(4001)]


def pages(folder: Path) -> dict[str, list[str]]:
    return {split: list(TextFiles(path=str(folder / f"{split}.jsonl")).documents()) for split in ("train", "val")}


@pytest.mark.parametrize("corpus", ["openwebtext", "fineweb_edu"])
def test_pages_of_the_web(corpus: str, load: Load, tmp_path: Path) -> None:
    put_rows(tmp_path / "in" / "a.jsonl.gz", PAGES)
    load(corpus).prepare(tmp_path / "in", out=tmp_path / "out")
    written = pages(tmp_path / "out")
    assert sorted(written["train"] + written["val"]) == sorted(PAGES)
    assert 1 <= len(written["val"]) <= 17
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train.jsonl", "val.jsonl"}


@pytest.mark.usefixtures("hub_cache")
def test_pages_of_the_hub_are_streamed(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openwebtext = load("openwebtext")
    put_rows(tmp_path / "hub" / "train.jsonl", PAGES)
    monkeypatch.setattr(openwebtext, "VAL_SHARE", 7)
    openwebtext.prepare(documents=101, hub=str(tmp_path / "hub"), out=tmp_path / "out")
    written = pages(tmp_path / "out")
    assert sorted(written["train"] + written["val"]) == sorted(PAGES[:101])
    (tmp_path / "hub" / "train.jsonl").unlink()
    put(tmp_path / "hub" / "train.jsonl", '{"body": "x"}\n')
    with pytest.raises(UserError, match="row 1 of train: no text under 'text'; it has body"):
        openwebtext.prepare(hub=str(tmp_path / "hub"), out=tmp_path / "out")
    assert pages(tmp_path / "out") == written


def test_documents_of_a_split_stay_in_order(tmp_path: Path) -> None:
    rows = [("val" if i == 4 else "train", f"{i}") for i in range(11)]
    put(tmp_path / "out" / "train.jsonl", "{}")
    write_json_lines(tmp_path / "out", iter(rows))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train.jsonl", "val.jsonl"}
    assert pages(tmp_path / "out")["train"] == [text for split, text in rows if split == "train"]


def test_a_failure_midway_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    def broken(row: object):  # type: ignore[no-untyped-def]
        yield row
        raise KeyboardInterrupt

    put(tmp_path / "train.jsonl", "old")
    put(tmp_path / "train.txt", "old")
    with pytest.raises(KeyboardInterrupt):
        write_json_lines(tmp_path, broken(("train", "new")))
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "train.txt", broken("new"))
    with pytest.raises(UserError, match="split val: no documents"):
        write_json_lines(tmp_path, [("train", "new")])
    with pytest.raises(UserError, match=r"train\.txt: no text"):
        write_text(tmp_path / "train.txt", [])
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"train.jsonl", "train.txt"}
    assert (tmp_path / "train.txt").read_text() == (tmp_path / "train.jsonl").read_text() == "old"


@pytest.mark.parametrize("corpus", ["wikitext2", "books", "openwebtext", "fineweb_edu"])
def test_a_hub_out_of_reach_points_at_local_files(corpus: str, run_script: Run, tmp_path: Path) -> None:
    if corpus in ("wikitext2", "openwebtext"):  # one without streaming and one with it, as commands; the rest by --help
        done = run_script(corpus, "--out", tmp_path / "out")  # HF_HUB_OFFLINE is set
        assert done.returncode == 1
        assert done.stderr.endswith("local files can be given with --from DIR\n")
        assert done.stderr.count("\n") == 1
    else:
        assert "--from PATH" in run_script(corpus, "--help").stdout
