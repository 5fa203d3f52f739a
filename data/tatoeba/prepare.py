"""Splits Tatoeba's short everyday sentences, English and German or French, so that no test sentence was seen.

There is no official split. This one goes by a hash of the English sentence: it stays when others are added.
"""

import hashlib
import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Literal

from transformer_zoo.data.corpora import find, hub_rows, load_hub, run, write_split
from transformer_zoo.data.parallel import ParallelFiles, read_parallel
from transformer_zoo.errors import UserError

Pair = tuple[str, str]
MANYTHINGS = {"de": "deu", "fr": "fra"}
PER_THOUSAND = 10  # of the English sentences, in val and in test each


def key(sentence: str) -> str:
    """What two copies of a sentence share: 'Hi.' and 'hi!' are one."""
    return " ".join(re.findall(r"\w+", sentence.casefold())) or sentence


def digest(text: str) -> int:
    """A number that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split(pairs: Iterable[Pair]) -> tuple[dict[str, list[Pair]], dict[str, int]]:
    """The pairs of each split, in hash order, and how many were dropped for which reason.

    All translations of an English sentence are in one split. A pair whose other side is also in test (or, for
    train, in val) is dropped.
    """
    parts: dict[str, list[Pair]] = {"test": [], "val": [], "train": []}
    dropped = {"empty": 0, "repeated": 0, "translation is in test": 0, "translation is in val": 0}
    seen: set[Pair] = set()
    for english, other in pairs:
        if not english.strip() or not other.strip():
            dropped["empty"] += 1
        elif (english, other) in seen:
            dropped["repeated"] += 1
        else:
            seen.add((english, other))
            place = digest(key(english)) % 1_000 // PER_THOUSAND
            parts[("test", "val")[place] if place < 2 else "train"].append((english, other))
    for held_out, later in (("test", ("val", "train")), ("val", ("train",))):
        taken = {key(other) for _, other in parts[held_out]}
        for name in later:
            kept = [pair for pair in parts[name] if key(pair[1]) not in taken]
            dropped[f"translation is in {held_out}"] += len(parts[name]) - len(kept)
            parts[name] = kept
    return {name: sorted(part, key=lambda pair: digest("\t".join(pair))) for name, part in parts.items()}, dropped


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
    parts, dropped = split(pairs)
    for name, part in parts.items():
        write_split(out, name, ("en", target), part)
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
    print(f"{len(pairs):,} pairs read, {sum(dropped.values()):,} dropped: {reasons or 'none'}")


if __name__ == "__main__":
    run(prepare)
