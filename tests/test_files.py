"""Where files are written: beside their targets under names that nobody else has, and never through a link."""

import contextlib
import os
from pathlib import Path

import pytest

from transformer_zoo.cli.streams import open_output
from transformer_zoo.data.corpora import write_split
from transformer_zoo.errors import UserError
from transformer_zoo.files import (
    is_file_name,
    lock,
    make_folder,
    open_own,
    remove_leftovers,
    replacing,
    temporary_file,
    write_text,
)
from transformer_zoo.runs.folder import open_run
from transformer_zoo.training.logging import RunLog

MINE = "somebody's own"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text(MINE)
    return folder


def test_a_file_beside_it_that_ends_in_part_is_nobody_else_s(tmp_path: Path) -> None:
    others = ["x.part", ".x.part", "x.partial", "part"]
    for name in others:
        (tmp_path / name).write_text(MINE)
    write_text(tmp_path / "x", "new")
    with open_output(tmp_path / "x") as file:
        file.write("newer")
    write_split(tmp_path, "x", ["en"], [("one",)])
    assert (tmp_path / "x").read_text() == "newer"
    assert {path.name for path in tmp_path.iterdir()} == {"x", "x.en", *others}
    assert all((tmp_path / name).read_text() == MINE for name in others)


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    with replacing(tmp_path / "x") as one, replacing(tmp_path / "x") as two:
        assert one.parent == two.parent == tmp_path
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = temporary_file(tmp_path / "x")
    (tmp_path / ".tmpEwkqUd").write_text("safetensors writes into such a file first, and was killed")
    own = [left.name[1:], f"{left.name}x", ".transformer_zoo-x.part", "x.part", ".tmp", ".tmpEwkqUdx", "x.tmpEwkqUd"]
    for name in own:
        (tmp_path / name).write_text(MINE)
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(own)


def test_output_of_a_command_that_failed_stays_beside_it(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), open_output(tmp_path / "x") as file:
        file.write("half")
        raise KeyboardInterrupt
    [left] = tmp_path.iterdir()
    assert left.name.startswith("x.")
    assert left.suffix == ".part"
    assert left.read_text() == "half"


def test_links_are_replaced_and_not_followed(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "link").symlink_to(outside / "file")
    os.link(outside / "file", tmp_path / "hard")
    for name in ("link", "hard"):
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"
    assert (outside / "file").read_text() == MINE


@pytest.mark.parametrize("to", ["file", "nothing"])
def test_files_that_grow_or_lock_are_no_links(tmp_path: Path, outside: Path, to: str) -> None:
    (tmp_path / "link").symlink_to(outside / to)
    for door in (open_own, lock):
        with pytest.raises(UserError, match="is a symbolic link"):
            door(tmp_path / "link")
    os.link(outside / "file", tmp_path / "hard")
    with open_own(tmp_path / "hard") as file:
        assert file.read() == MINE.encode()
        file.write(b" and more")
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == MINE


@pytest.mark.parametrize("name", ["checkpoints", "tokenizer", "tensorboard", "test", "tokens"])
@pytest.mark.parametrize("to", ["", "nothing"])
def test_a_folder_of_a_run_that_is_a_link_is_refused(tmp_path: Path, outside: Path, name: str, to: str) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / name).symlink_to(outside / to)
    with pytest.raises(UserError, match=rf"{name} is a symbolic link"):
        open_run(run_dir, {}, {})
    with pytest.raises(UserError, match=rf"{name} is a symbolic link"):
        make_folder(run_dir, name)
    assert [path.name for path in outside.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.txt", ".lock", "config.yaml"])
def test_a_file_of_a_run_that_is_a_link_writes_nothing_elsewhere(tmp_path: Path, outside: Path, name: str) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / name).symlink_to(outside / "file")
    try:
        open_run(run_dir, {}, {}).close()
        log = RunLog(run_dir, sizes={})
        log.metrics("train", 1, {"loss": 1.0})
        log.close()
    except UserError as error:
        assert name in str(error)  # noqa: PT017  (or it is replaced)
    assert (outside / "file").read_text() == MINE


def test_a_run_s_folder_may_be_a_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "run").symlink_to(outside)
    open_run(tmp_path / "run", {}, {}).close()
    assert (outside / "config.yaml").exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "..", ".", "", ".x", "a\n", 3, None, "a b"])
def test_names_that_lead_elsewhere_are_none(name: object) -> None:
    assert not is_file_name(name)


@pytest.mark.parametrize("name", ["test", "flickr_2016", "newstest-14.v2", "тест"])
def test_plain_names_are_names(name: str) -> None:
    assert is_file_name(name)
