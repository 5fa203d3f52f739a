"""Writes books, one after the other: some from the hub's copy of PG-19, or your own from a folder."""

from itertools import islice
from pathlib import Path

from jsonargparse.typing import NonNegativeInt

from transformer_zoo.data import TextFiles
from transformer_zoo.data.corpora import SEPARATOR, find, find_all, hub_texts, load_hub, run, split_by_hash, write_text

VAL_SHARE = 20  # one book in this many is val, in a folder of books


def prepare(
    from_: Path | None = None,
    books: NonNegativeInt = 150,
    hub: str = "emozilla/pg19",
    out: Path = Path(__file__).parent,
) -> None:
    """Write books as train.txt and val.txt, a line <|endoftext|> after each.

    Args:
        from_: folder with train.txt and val.txt (plain or .gz) in which that line stands between the books, or with one
            file for each book. In the latter case one book in twenty, drawn by its content, is val. Without from_ the
            hub is asked.
        books: number of books from the hub's training split; 0 for all (28,602, 11 GB).
        hub: dataset of the hub with splits train and validation and a column text, or a local folder of the same
            form.
        out: folder for train.txt and val.txt; by default the script's own.
    """
    if from_ is None:
        splits = load_hub(hub, streaming=True)
        write_text(out / "train.txt", islice(hub_texts(splits, "train"), books or None), separator=SEPARATOR)
        write_text(out / "val.txt", hub_texts(splits, "validation"), separator=SEPARATOR)
    elif find(from_, "train.txt"):
        for path in find_all(from_, ["train.txt", "val.txt"]):
            texts = TextFiles(path=str(path), separator=SEPARATOR).documents()
            write_text(out / path.name.removesuffix(".gz"), texts, separator=SEPARATOR)
    else:
        for split in ("train", "val"):
            texts = (
                text for to, text in split_by_hash(TextFiles(path=str(from_)).documents(), VAL_SHARE) if to == split
            )
            write_text(out / f"{split}.txt", texts, separator=SEPARATOR)


if __name__ == "__main__":
    run(prepare)
