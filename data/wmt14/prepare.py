"""Writes WMT14 English-German as plain text: newstest2013 is val, newstest2014 is test."""

from itertools import chain
from pathlib import Path

from transformer_zoo.data.corpora import aligned_lines, find, find_all, hub_rows, load_hub, run, write_split

LANGUAGES = ("en", "de")
HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
# The names each split may have in a folder: our own, or else WMT's. WMT's training text comes in three parts.
FILES = {
    "train": (["train"], ["europarl-v7.de-en", "commoncrawl.de-en", "news-commentary-v9.de-en"]),
    "val": (["val"], ["newstest2013"]),
    "test": (["test"], ["newstest2014"]),
}


def write_folder(folder: Path, out: Path) -> None:
    """Writes the three splits from a folder of plain or .gz files."""
    for split, (own, wmt) in FILES.items():
        names = own if find(folder, f"{own[0]}.en") else wmt
        parts = [find_all(folder, [f"{name}.{language}" for language in LANGUAGES]) for name in names]
        write_split(out, split, LANGUAGES, chain.from_iterable(map(aligned_lines, parts)))


def prepare(from_: Path | None = None, hub: str = "wmt/wmt14", out: Path = Path(__file__).parent) -> None:
    """Write WMT14 English-German as train, val (newstest2013) and test (newstest2014), one sentence a line.

    Args:
        from_: folder with train, val and test, or with WMT's own europarl-v7.de-en, commoncrawl.de-en,
            news-commentary-v9.de-en, newstest2013 and newstest2014; each as .en and .de, plain or .gz.
            Without it the hub is asked (about 0.8 GB to download).
        hub: dataset of the hub with a configuration de-en, or a local folder of the same form.
        out: folder for train.en, train.de, ...; by default the script's own.
    """
    if from_ is not None:
        return write_folder(from_, out)
    splits = load_hub(hub, "de-en")
    for name, hub_name in HUB_SPLITS.items():
        write_split(out, name, LANGUAGES, hub_rows(splits, hub_name, LANGUAGES))


if __name__ == "__main__":
    run(prepare)
