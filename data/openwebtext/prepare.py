"""Writes OpenWebText as JSON lines, read from the hub while it downloads."""

from itertools import islice
from pathlib import Path

from jsonargparse.typing import NonNegativeInt

from transformer_zoo.data import TextFiles
from transformer_zoo.data.corpora import hub_texts, load_hub, run, split_by_hash, write_json_lines

VAL_SHARE = 2000  # one document in this many is val


def prepare(
    from_: Path | None = None,
    documents: NonNegativeInt = 0,
    hub: str = "Skylion007/openwebtext",
    out: Path = Path(__file__).parent,
) -> None:
    """Write OpenWebText as train.jsonl and val.jsonl: lines {"text": ...}, one document a line.

    Args:
        from_: folder with the documents: JSON lines (.jsonl, plain or .gz) with a key text, or text files of one
            document each; without it the hub is asked (40 GB of text).
        documents: stop after this many documents; 0 for all.
        hub: dataset of the hub with a column text, or a local folder of the same form.
        out: folder for train.jsonl and val.jsonl; by default the script's own.
    """
    if from_ is not None:
        texts = TextFiles(path=str(from_)).documents()
    else:
        texts = hub_texts(load_hub(hub, streaming=True), "train")
    write_json_lines(out, split_by_hash(islice(texts, documents or None), VAL_SHARE))


if __name__ == "__main__":
    run(prepare)
