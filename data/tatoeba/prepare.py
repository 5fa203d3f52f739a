"""Splits Tatoeba's short everyday sentences, English and German or French, so that no test sentence was seen.

There is no official split. This one uses a hash of the English sentence, so it stays when other sentences are added.
"""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Literal

from transformer_zoo.data.corpora import find, hub_rows, load_hub, run, write_split
from transformer_zoo.data.parallel import ParallelFiles, read_parallel
from transformer_zoo.data.splits import split_pairs
from transformer_zoo.errors import UserError

Pair = tuple[str, str]
MANYTHINGS = {"de": "deu", "fr": "fra"}
HELD_OUT = {"test": 0.01, "val": 0.01}  # of the English sentences


def from_folder(folder: Path, code: str) -> Iterable[Pair]:
    """The pairs of eng-deu.tsv, or of ManyThings' deu.txt, whose third column names the authors."""
    names = (f"eng-{code}.tsv", f"{code}.txt")
    path = next(filter(None, (find(folder, name) for name in names)), None)
    if path is None:
        raise UserError(f"{folder}: neither {names[0]} nor {names[1]} is there (nor as .gz)")
    text = read_parallel(ParallelFiles(tsv=str(path)))
    return zip(text.source, text.target, strict=True)


def from_hub(name: str, language: str) -> Iterable[Pair]:
    """The pairs of all splits of the hub's dataset."""
    splits = load_hub(name, f"en-{language}")
    nested = any("translation" in part.column_names for part in splits.values())
    columns = ("en", language) if nested else ("english", "non_english")
    return ((row[0], row[1]) for row in chain.from_iterable(hub_rows(splits, part, columns) for part in splits))


def prepare(
    from_: Path | None = None,
    target: Literal["de", "fr"] = "de",
    hub: str = "sentence-transformers/parallel-sentences-tatoeba",
    out: Path = Path(__file__).parent,
) -> None:
    """Write Tatoeba as train, val and test, one sentence a line, split by a hash of the English sentence.

    Args:
        from_: folder with eng-deu.tsv or eng-fra.tsv, or with ManyThings' deu.txt or fra.txt (plain or .gz):
            English, tab, translation; further columns are ignored. Without it the hub is asked.
        target: the other language. Give each its own --out: both have a train.en.
        hub: dataset of the hub with a configuration en-de or en-fr, or a local folder of the same form; its
            columns are english and non_english, or translation.
        out: folder for train.en, train.de, ...; by default the script's own.
    """
    pairs = list(from_folder(from_, MANYTHINGS[target]) if from_ is not None else from_hub(hub, target))
    parts, dropped = split_pairs(pairs, HELD_OUT)
    for name, part in parts.items():
        write_split(out, name, ("en", target), part)
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
    print(f"{len(pairs):,} pairs read, {sum(dropped.values()):,} dropped: {reasons or 'none'}")


if __name__ == "__main__":
    run(prepare)
