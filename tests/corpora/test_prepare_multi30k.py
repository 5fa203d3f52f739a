"""data/multi30k: the same splits from plain files, gzipped files and a dataset of the hub's form."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from transformer_zoo.errors import UserError

Read = Callable[[Path], dict[str, str]]

TEXT = {
    "train.en": "A dog runs.\nTwo men — talking.\n",
    "train.de": "Ein Hund läuft.\nZwei Männer reden.\n",
    "train.fr": "Un chien court.\nDeux hommes parlent.\n",
    "val.en": "A cat.\n",
    "val.de": "Eine Katze.\n",
    "val.fr": "Un chat.\n",
    "test_2016_flickr.en": "A bird.\n",
    "test_2016_flickr.de": "Ein Vogel.\n",
    "test_2016_flickr.fr": "Un oiseau.\n",
}
EN_DE = {name: text for name, text in TEXT.items() if not name.endswith("fr")}


@pytest.fixture(scope="module")
def multi30k(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("multi30k")


def put(folder: Path, files: dict[str, str], *, zipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_bytes(text.encode())
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_files_come_out_byte_by_byte(multi30k: ModuleType, tmp_path: Path, read: Read, zipped: bool) -> None:
    multi30k.prepare(put(tmp_path / "in", TEXT, zipped=zipped), out=tmp_path / "out")
    assert read(tmp_path / "out") == EN_DE


def test_three_languages_at_once(multi30k: ModuleType, tmp_path: Path, read: Read) -> None:
    multi30k.prepare(put(tmp_path / "in", TEXT), languages=["en", "de", "fr"], out=tmp_path / "out")
    assert read(tmp_path / "out") == TEXT


@pytest.mark.parametrize("inside", [True, False])
def test_tokenised_text_is_written_beside(multi30k: ModuleType, tmp_path: Path, read: Read, inside: bool) -> None:
    raw = put(tmp_path / "in", EN_DE)
    tokenised = {name.replace(".", ".lc.norm.tok.", 1): text.lower() for name, text in EN_DE.items()}
    tok = put(raw / "tok" if inside else tmp_path / "elsewhere", tokenised)
    multi30k.prepare(raw, tok=None if inside else tok, out=tmp_path / "out")
    assert read(tmp_path / "out") == EN_DE | tokenised


def test_tokenised_text_alone_needs_no_hub(multi30k: ModuleType, tmp_path: Path, read: Read) -> None:
    tokenised = {name.replace(".", ".lc.norm.tok.", 1): text.lower() for name, text in EN_DE.items()}
    multi30k.prepare(tok=put(tmp_path / "tok", tokenised), hub="no/such", out=tmp_path / "out")
    assert read(tmp_path / "out") == tokenised


def test_a_later_test_set_is_taken_where_it_has_both_languages(
    multi30k: ModuleType, tmp_path: Path, read: Read
) -> None:
    later = {"test_2017_flickr.en": "A house.\n", "test_2017_flickr.de": "Ein Haus.\n"}
    raw = put(tmp_path / "in", EN_DE | later | {"test_2018_flickr.en": "Alone.\n"})
    multi30k.prepare(raw, out=tmp_path / "out")
    assert read(tmp_path / "out") == EN_DE | later


def test_a_missing_file_is_named(multi30k: ModuleType, tmp_path: Path) -> None:
    raw = put(tmp_path / "in", {name: text for name, text in EN_DE.items() if name != "val.de"})
    with pytest.raises(UserError, match=r"in: neither val\.de nor val\.de\.gz is there"):
        multi30k.prepare(raw, out=tmp_path / "out")


def test_a_missing_folder_is_named(multi30k: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: no such folder"):
        multi30k.prepare(tmp_path / "absent", out=tmp_path / "out")


def test_files_of_different_length_are_refused_and_leave_the_old_split(
    multi30k: ModuleType, tmp_path: Path, read: Read
) -> None:
    out = put(tmp_path / "out", {"train.en": "old\n", "train.de": "alt\n"})
    raw = put(tmp_path / "in", EN_DE | {"train.de": "Ein Hund läuft.\n"})
    with pytest.raises(UserError, match=r"train\.de: ends after line 1 but .*train\.en goes on"):
        multi30k.prepare(raw, out=out)
    assert read(out) == {"train.en": "old\n", "train.de": "alt\n"}


def test_an_empty_split_is_refused(multi30k: ModuleType, tmp_path: Path) -> None:
    raw = put(tmp_path / "in", EN_DE | {"train.en": "", "train.de": ""})
    with pytest.raises(UserError, match="split train: no sentences"):
        multi30k.prepare(raw, out=tmp_path / "out")


def test_one_language_is_refused(multi30k: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--languages: two or more different ones are needed, here is en en"):
        multi30k.prepare(tmp_path, languages=["en", "en"])


def hub(folder: Path) -> Path:
    """A local dataset of the form of bentrevett/multi30k: {train,val,test}.jsonl with columns en and de."""
    folder.mkdir()
    for hub_name, split in (("train", "train"), ("val", "val"), ("test", "test_2016_flickr")):
        columns = [EN_DE[f"{split}.{language}"].splitlines() for language in ("en", "de")]
        rows = [json.dumps({"en": en, "de": de}) + "\n" for en, de in zip(*columns, strict=True)]
        (folder / f"{hub_name}.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


@pytest.mark.usefixtures("hub_cache")
def test_the_hub_gives_the_same_files(multi30k: ModuleType, tmp_path: Path, read: Read) -> None:
    multi30k.prepare(hub=str(hub(tmp_path / "hub")), out=tmp_path / "out")
    assert read(tmp_path / "out") == EN_DE


@pytest.mark.usefixtures("hub_cache")
def test_a_line_break_inside_a_sentence_of_the_hub_becomes_a_space(
    multi30k: ModuleType, tmp_path: Path, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hub(tmp_path / "hub")
    broken = json.dumps({"en": "A dog\r\nruns.", "de": "Ein Hund läuft.\n"}) + "\n"
    (folder / "train.jsonl").write_text(broken, encoding="utf-8")
    multi30k.prepare(hub=str(folder), out=tmp_path / "out")
    files = read(tmp_path / "out")
    assert (files["train.en"], files["train.de"]) == ("A dog runs.\n", "Ein Hund läuft.\n")
    assert "2 sentences had a line break inside; it is a space now" in capsys.readouterr().out


@pytest.mark.usefixtures("hub_cache")
def test_a_language_the_hub_does_not_have_is_named(multi30k: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 1 of train: no text under 'en' or 'fr'; it has en, de"):
        multi30k.prepare(hub=str(hub(tmp_path / "hub")), languages=["en", "fr"], out=tmp_path / "out")


@pytest.mark.usefixtures("hub_cache")
def test_a_split_the_hub_does_not_have_is_named(multi30k: ModuleType, tmp_path: Path) -> None:
    folder = hub(tmp_path / "hub")
    (folder / "test.jsonl").unlink()
    with pytest.raises(UserError, match="no split 'test'; it has train, validation"):
        multi30k.prepare(hub=str(folder), out=tmp_path / "out")
