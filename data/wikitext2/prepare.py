"""Writes WikiText-2 as train, val and test: tokenised, rare words replaced by `<unk>`, or raw."""

from collections.abc import Iterator
from pathlib import Path

from transformer_zoo.data import TextFiles
from transformer_zoo.data.corpora import find, hub_texts, load_hub, run, write_text
from transformer_zoo.errors import UserError

# Our split, that of the hub, and the names its file may have in a folder.
SPLITS = {
    "train": ("train", ("train.txt", "wiki.train.tokens", "wiki.train.raw")),
    "val": ("validation", ("valid.txt", "val.txt", "wiki.valid.tokens", "wiki.valid.raw")),
    "test": ("test", ("test.txt", "wiki.test.tokens", "wiki.test.raw")),
}


def local(folder: Path, names: tuple[str, ...]) -> Iterator[str]:
    """The text of the first of these files that the folder has, plain or .gz."""
    path = next(filter(None, (find(folder, name) for name in names)), None)
    if path is None:
        raise UserError(f"{folder}: none of {', '.join(names)} is there, plain or .gz")
    return TextFiles(path=str(path)).texts()


def lines(rows: Iterator[str]) -> Iterator[str]:
    """The lines of the official file: the hub keeps each line, but not the ` ` between paragraphs."""
    return ((row.rstrip("\n") or " ") + "\n" for row in rows)


def prepare(
    from_: Path | None = None,
    raw: bool = False,
    hub: str = "Salesforce/wikitext",
    out: Path = Path(__file__).parent,
) -> None:
    """Write WikiText-2 as train.txt, val.txt and test.txt, each one running text.

    Args:
        from_: folder with train.txt, valid.txt and test.txt, or wiki.train.tokens, ... (plain or .gz); without it
            the hub is asked.
        raw: take the text as people wrote it from the hub, rather than tokenised with <unk>.
        hub: dataset of the hub with the configurations wikitext-2-v1 and wikitext-2-raw-v1, or a local folder of
            the same form.
        out: folder for the three files; by default the script's own.
    """
    splits = load_hub(hub, "wikitext-2-raw-v1" if raw else "wikitext-2-v1") if from_ is None else {}
    for split, (hub_name, names) in SPLITS.items():
        texts = local(from_, names) if from_ is not None else lines(hub_texts(splits, hub_name))
        write_text(out / f"{split}.txt", texts)


if __name__ == "__main__":
    run(prepare)
