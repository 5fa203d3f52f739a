"""Writes Multi30k (task 1, image captions) as plain text, from the hub or from the files of its authors."""

from collections.abc import Sequence
from pathlib import Path

from transformer_zoo.data.corpora import aligned_lines, find, find_all, hub_rows, load_hub, run, write_split
from transformer_zoo.errors import UserError

SPLITS = ("train", "val", "test_2016_flickr")
LATER_TESTS = ("test_2017_flickr", "test_2017_mscoco", "test_2018_flickr")  # written where they are there
HUB_SPLITS = {"train": "train", "val": "validation", "test_2016_flickr": "test"}
TOK = "lc.norm.tok"  # lower-cased, normalised, tokenised by the authors of the corpus


def write_folder(folder: Path, out: Path, languages: Sequence[str], infix: str = "") -> None:
    """Writes the splits of a folder with files like train.en, or train.lc.norm.tok.en."""
    for split in SPLITS + LATER_TESTS:
        name = split + infix
        files = [f"{name}.{language}" for language in languages]
        if split in SPLITS or all(find(folder, file) for file in files):
            write_split(out, name, languages, aligned_lines(find_all(folder, files)))


def prepare(
    from_: Path | None = None,
    tok: Path | None = None,
    languages: Sequence[str] = ("en", "de"),
    hub: str = "bentrevett/multi30k",
    out: Path = Path(__file__).parent,
) -> None:
    """Write Multi30k as train, val and test_2016_flickr (and later tests if they are given), one sentence a line.

    Args:
        from_: folder with train.en, train.de, val.en, ... (plain or .gz), such as data/task1/raw of the
            repository multi30k/dataset; without it, and without --tok, the hub is asked.
        tok: folder with train.lc.norm.tok.en, ... (data/task1/tok of that repository), which are written too, or alone
            without --from; by default the folder `tok` inside that of --from, if there is one.
        languages: two or more of en, de, fr, cs. The hub's dataset has en and de.
        hub: dataset on the hub, or a local folder of the same form, with one column for each language.
        out: folder for train.en, train.de, ...; by default the script's own.
    """
    if len(set(languages)) < 2:
        raise UserError(f"--languages: two or more different ones are needed, here is {' '.join(languages) or 'none'}")
    if from_ is not None:
        write_folder(from_, out, languages)
        tok = tok or (from_ / "tok" if (from_ / "tok").is_dir() else None)
    elif tok is None:
        splits = load_hub(hub)
        for name, hub_name in HUB_SPLITS.items():
            write_split(out, name, languages, hub_rows(splits, hub_name, languages))
    if tok is not None:
        write_folder(tok, out, languages, infix=f".{TOK}")


if __name__ == "__main__":
    run(prepare)
