"""data/tatoeba: a split that does not move, and in which no held-out sentence was seen from either side."""

import gzip
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from transformer_zoo.data.splits import split_pairs
from transformer_zoo.errors import UserError

Read = Callable[[Path], dict[str, str]]
Pair = tuple[str, str]
# Six translations of every English sentence; each German sentence also translates a neighbour.
PAIRS = [(f"This is {n}.", f"Das ist {n + k}.") for n in range(500) for k in (0, 0, 1, 1_000, 2_000, 3_000)]


@pytest.fixture(scope="module")
def tatoeba(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("tatoeba")


@pytest.fixture(scope="module")
def parts(tatoeba: ModuleType) -> dict[str, list[Pair]]:
    return split_pairs(PAIRS, tatoeba.HELD_OUT)[0]


def test_nothing_held_out_is_seen_from_either_side(parts: dict[str, list[Pair]]) -> None:
    assert all(parts.values())
    for side in (0, 1):
        train, val, test = ({pair[side] for pair in parts[name]} for name in ("train", "val", "test"))
        assert not train & (val | test)
        assert not val & test


@pytest.mark.parametrize(
    ("name", "line"),
    [("eng-deu.tsv", "{}\t{}\n"), ("deu.txt", "{}\t{}\tCC-BY 2.0 (France) Attribution: tatoeba.org #1\n")],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_files_as_they_are_shipped(
    tatoeba: ModuleType,
    parts: dict[str, list[Pair]],
    tmp_path: Path,
    read: Read,
    name: str,
    line: str,
    zipped: bool,
) -> None:
    data = "".join(line.format(*pair) for pair in PAIRS).encode()
    (tmp_path / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(data) if zipped else data)
    tatoeba.prepare(tmp_path, out=tmp_path / "out")
    expected = {
        f"{split}.{language}": "".join(pair[side] + "\n" for pair in part)
        for split, part in parts.items()
        for side, language in enumerate(("en", "de"))
    }
    assert read(tmp_path / "out") == expected


def test_french(tatoeba: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "fra.txt").write_text("".join(f"{en}\t{de}\n" for en, de in PAIRS), encoding="utf-8")
    tatoeba.prepare(tmp_path, target="fr", out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "test.en", "test.fr", "train.en", "train.fr", "val.en", "val.fr",
    ]  # fmt: skip


def test_errors_name_the_file_and_the_line(tatoeba: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither eng-deu\.tsv nor deu\.txt is there"):
        tatoeba.prepare(tmp_path, out=tmp_path / "out")
    (tmp_path / "deu.txt").write_text("Hi.\tHallo.\nno tab\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"deu\.txt:2: "):
        tatoeba.prepare(tmp_path, out=tmp_path / "out")


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize("nested", [False, True], ids=["english and non_english", "translation"])
def test_the_hub_gives_the_same_split(
    tatoeba: ModuleType, parts: dict[str, list[Pair]], tmp_path: Path, read: Read, nested: bool
) -> None:
    """A local dataset with a configuration en-de; its splits train and dev are joined and split again."""
    import datasets

    folder = tmp_path / "hub"
    for name, pairs in (("train", PAIRS[:2_000]), ("dev", PAIRS[2_000:])):
        if nested:
            columns = {"translation": [{"en": english, "de": other} for english, other in pairs]}
        else:
            columns = {"english": [pair[0] for pair in pairs], "non_english": [pair[1] for pair in pairs]}
        datasets.Dataset.from_dict(columns).to_parquet(folder / "en-de" / f"{name}-00000-of-00001.parquet")
    files = "".join(f"  - {{split: {name}, path: en-de/{name}-*}}\n" for name in ("train", "dev"))
    card = f"---\nconfigs:\n- config_name: en-de\n  data_files:\n{files}---\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    tatoeba.prepare(hub=str(folder), out=tmp_path / "out")
    assert read(tmp_path / "out")["test.en"] == "".join(pair[0] + "\n" for pair in parts["test"])
    assert read(tmp_path / "out")["train.de"] == "".join(pair[1] + "\n" for pair in parts["train"])
