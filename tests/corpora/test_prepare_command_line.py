"""The scripts as commands: what they say, how they fail, what they do not import."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from transformer_zoo.data.corpora import aligned_lines, write_split

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_help_explains_every_option(run_script: Run) -> None:
    done = run_script("multi30k", "--help")
    assert done.returncode == 0
    for words in (
        "--from PATH",
        "folder with train.en",
        "--languages",
        "--tok",
        "--hub",
        "--out",
        "Write Multi30k",
    ):
        assert words in done.stdout


def test_a_mistake_is_one_line_and_status_1(run_script: Run, tmp_path: Path) -> None:
    done = run_script("tatoeba", "--from", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}: neither eng-deu.tsv")
    assert done.stderr.count("\n") == 1


def test_a_bad_option_is_status_2(run_script: Run) -> None:
    done = run_script("multi30k", "--form", "x")
    assert done.returncode == 2
    assert "--form" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_out_of_reach_points_at_local_files(run_script: Run, tmp_path: Path) -> None:
    done = run_script("multi30k", "--out", tmp_path / "out")  # HF_HUB_OFFLINE is set
    assert done.returncode == 1
    assert done.stdout == "reading bentrevett/multi30k from the hub\n"
    assert done.stderr.startswith("error: hub dataset bentrevett/multi30k: ")
    assert done.stderr.endswith("local files can be given with --from DIR\n")
    assert done.stderr.count("\n") == 1


def test_local_files_need_no_datasets(run_script: Run, tmp_path: Path) -> None:
    for split in ("train", "val", "test_2016_flickr"):
        for language in ("en", "fr"):
            (tmp_path / f"{split}.{language}").write_text(f"{split} {language}\n", encoding="utf-8")
    refuse = "sys.modules['datasets'] = None"  # an import of it would fail
    out = tmp_path / "out"
    done = run_script("multi30k", "--from", tmp_path, "--languages", "en", "fr", "--out", out, before=refuse)
    assert done.returncode == 0, done.stderr
    assert f"{out}/train.{{en,fr}}: 1 pairs" in done.stdout
    assert (out / "val.fr").read_text(encoding="utf-8") == "val fr\n"


def test_a_failure_midway_leaves_no_half_split(tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text("old\n", encoding="utf-8")

    def rows() -> Iterator[tuple[str, str]]:
        yield "new", "neu"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_split(tmp_path, "train", ("en", "de"), rows())
    assert [path.name for path in tmp_path.iterdir()] == ["train.en"]
    assert (tmp_path / "train.en").read_text(encoding="utf-8") == "old\n"


def test_only_a_newline_ends_a_sentence(tmp_path: Path) -> None:
    # Crawled text holds U+2028 and U+0085, at which str.splitlines() would cut and shift all lines after.
    lines = [("a\u2028b", "c"), ("d", "e\x85f\x0b")]
    write_split(tmp_path, "train", ("en", "de"), lines)
    assert list(aligned_lines([tmp_path / "train.en", tmp_path / "train.de"])) == lines
