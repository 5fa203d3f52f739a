"""data/wmt14: newstest2013 validates, newstest2014 tests, whatever the files are called."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from transformer_zoo.errors import UserError

Read = Callable[[Path], dict[str, str]]
WRITTEN = {
    "train.en": "one\ntwo\nthree\n",
    "train.de": "eins\nzwei\ndrei\n",
    "val.en": "four\n",
    "val.de": "vier\n",
    "test.en": "five\n",
    "test.de": "fünf\n",
}


@pytest.fixture(scope="module")
def wmt14(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("wmt14")


def put(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    return folder


def test_own_names(wmt14: ModuleType, tmp_path: Path, read: Read) -> None:
    wmt14.prepare(put(tmp_path / "in", WRITTEN), out=tmp_path / "out")
    assert read(tmp_path / "out") == WRITTEN


def test_wmts_own_names(wmt14: ModuleType, tmp_path: Path, read: Read) -> None:
    source = {
        "europarl-v7.de-en.en": "one\n", "europarl-v7.de-en.de": "eins\n",
        "commoncrawl.de-en.en": "two\n", "commoncrawl.de-en.de": "zwei\n",
        "news-commentary-v9.de-en.en": "three\n", "news-commentary-v9.de-en.de": "drei\n",
        "newstest2013.en": "four\n", "newstest2013.de": "vier\n",
        "newstest2014.en": "five\n", "newstest2014.de": "fünf\n",
    }  # fmt: skip
    wmt14.prepare(put(tmp_path / "in", source), out=tmp_path / "out")
    assert read(tmp_path / "out") == WRITTEN


def test_a_missing_part_is_named_before_anything_is_written(wmt14: ModuleType, tmp_path: Path, read: Read) -> None:
    source = {"europarl-v7.de-en.en": "one\n", "europarl-v7.de-en.de": "eins\n"}
    with pytest.raises(UserError, match=r"neither commoncrawl\.de-en\.en nor commoncrawl\.de-en\.en\.gz is there"):
        wmt14.prepare(put(tmp_path / "in", source), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("hub_cache")
def test_the_hub_gives_the_same_files(wmt14: ModuleType, tmp_path: Path, read: Read) -> None:
    """A local dataset of the form of wmt/wmt14: Parquet, a configuration de-en, a column of dicts."""
    import datasets

    splits = {"train": "train", "validation": "val", "test": "test"}
    folder = tmp_path / "hub"
    for hub_name, split in splits.items():
        columns = [WRITTEN[f"{split}.{language}"].splitlines() for language in ("de", "en")]
        pairs = [{"de": de, "en": en} for de, en in zip(*columns, strict=True)]
        feature = datasets.Features({"translation": datasets.Translation(languages=["de", "en"])})
        rows = datasets.Dataset.from_dict({"translation": pairs}, features=feature)
        rows.to_parquet(folder / "de-en" / f"{hub_name}-00000-of-00001.parquet")
    files = "".join(f"  - {{split: {name}, path: de-en/{name}-*}}\n" for name in splits)
    card = f"---\nconfigs:\n- config_name: de-en\n  data_files:\n{files}---\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    wmt14.prepare(hub=str(folder), out=tmp_path / "out")
    assert read(tmp_path / "out") == WRITTEN


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_dataset_without_the_configuration_is_one_line(wmt14: ModuleType, tmp_path: Path) -> None:
    folder = put(tmp_path / "hub", {"train.jsonl": '{"translation": {"de": "eins", "en": "one"}}\n'})
    with pytest.raises(UserError, match=r"hub dataset .*de-en.*--from DIR") as caught:
        wmt14.prepare(hub=str(folder), out=tmp_path / "out")
    assert "\n" not in str(caught.value)
