"""`transformer-zoo attention` and `neighbours`: what a run attends to, and which words are similar to it."""

import json as jsonlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from transformer_zoo.cli.search import Languages

if TYPE_CHECKING:
    from transformer_zoo.runs import AttentionMaps
    from transformer_zoo.runs.exporting import AnyRun
    from transformer_zoo.runs.looking import AttentionKind

_DRAWN = (".png", ".svg", ".pdf")
_TITLES = {
    "encoder": "Attention of the encoder: the source to itself",
    "decoder": "Attention of the decoder: what is written to what was before",
    "cross": "Cross-attention: what is written to the source",
}


def attention(
    run: Path,
    text: str,
    languages: Languages,
    target: str | None = None,
    output: Path = Path("attention.html"),
    dark: bool = False,
    device: str = "auto",
) -> None:
    """Show what each piece of a sentence attends to, in all heads of all layers, and the alignment of a translation.

    A page (.html) is one file; click on a head to enlarge it. A picture (.png, .svg, .pdf) needs matplotlib.

    Args:
        run: Folder of a run of any kind.
        text: The sentence; for a run that translates, in the source language.
        languages: Languages.
        target: Its translation; by default the one that the run finds.
        output: File to write.
        dark: Make a picture for dark pages. A page follows the reader's system.
        device: cpu, cuda, cuda:N or mps; auto is the GPU if there is one.

    Examples:
        transformer-zoo attention runs/my "The train leaves."
        transformer-zoo attention runs/my "The train leaves." --target "Der Zug fährt ab."
        transformer-zoo attention runs/gpt "Once upon a time" --output heads.png
    """
    from transformer_zoo.cli.html import check_output, colours_of, write_page
    from transformer_zoo.files import replacing
    from transformer_zoo.runs import attention_maps

    check_output(output, (".html", *_DRAWN))
    if output.suffix in _DRAWN:
        from transformer_zoo.pictures import attention as draw
        from transformer_zoo.pictures.drawing import check_matplotlib

        check_matplotlib()
    maps = attention_maps(_loaded(run, languages, device), text, target)
    if output.suffix in _DRAWN:
        figure = draw(maps, dark=dark)
        with replacing(output) as part:
            figure.savefig(part, format=output.suffix[1:])
    else:
        parts = [_part(kind, maps) for kind in maps.weights]
        aligned = _aligned(maps) if maps.written else None
        said = {"run": str(run), "text": text, "target": target, "maps": maps}
        scale = [colours_of(i / 8)[0] for i in range(9)]
        write_page(output, "attention.html", **said, parts=parts, aligned=aligned, scale=scale)
    if maps.written and target is None:
        print(f"translation: {maps.translation}")
    print(f"{output}: {', '.join(f'{len(layers)} layers of {kind}' for kind, layers in maps.weights.items())}")


def _loaded(run: Path, languages: Languages, device: str) -> "AnyRun":
    from transformer_zoo.runs import load_run
    from transformer_zoo.runs.huggingface import translating
    from transformer_zoo.training.device import choose_device

    loaded, chosen = load_run(run, device=choose_device(device)), vars(languages).values()
    return translating(loaded, *chosen, of=str(run)) if any(chosen) else loaded


def _part(kind: "AttentionKind", maps: "AttentionMaps") -> dict[str, Any]:
    """The page's content for one kind of attention."""
    from transformer_zoo.cli.html import picture_of
    from transformer_zoo.runs.looking import visible

    rows, columns = ([*map(visible, side)] for side in maps.pieces(kind))
    layers = [[picture_of(head.numpy()) for head in heads] for heads in maps.weights[kind]]
    small = max(1.0, min(9.0, 170 / max(len(rows), len(columns), 1)))  # pixels for each weight
    return {"kind": kind, "title": _TITLES[kind], "rows": rows, "columns": columns, "layers": layers, "small": small}


def _aligned(maps: "AttentionMaps") -> dict[str, Any]:
    """The alignment as a table of weights with their colours."""
    from transformer_zoo.cli.html import colours_of
    from transformer_zoo.runs.looking import visible

    source, written = ([*map(visible, side)] for side in (maps.source, maps.written))
    cells = [
        [{"weight": weight, "colours": colours_of(weight), "most": weight == max(row)} for weight in row]
        for row in maps.alignment.tolist()
    ]
    return {"source": source, "rows": [*zip(written, cells, strict=True)]}


def neighbours(
    run: Path,
    word: str,
    plus: Sequence[str] = (),
    minus: Sequence[str] = (),
    n: PositiveInt = 10,
    json: bool = False,
) -> None:
    """List the words whose embeddings are nearest to that of a word, or to a sum such as king - man + woman.

    Nearness is the cosine between rows of the matrix in which the model looks up its input, from -1 to 1. Answers are
    pieces of the vocabulary that are whole words, or can be. A word of several pieces counts as their mean, with a
    message.

    Args:
        run: Folder of a run of any kind.
        word: The word; several words are quoted, with blanks between them.
        plus: Words to add.
        minus: Words to subtract.
        n: Number of words to list.
        json: Print JSON instead of a table.

    Examples:
        transformer-zoo neighbours runs/my Monday
        transformer-zoo neighbours runs/my king --minus man --plus woman
        transformer-zoo neighbours runs/my Monday --n 20
    """
    from transformer_zoo.cli.tables import print_table
    from transformer_zoo.runs import load_run, word_pieces
    from transformer_zoo.runs import neighbours as near

    loaded = load_run(run)
    found = near(loaded, word, plus, minus, n)
    for one in dict.fromkeys((word, *plus, *minus)):
        if len(pieces := word_pieces(loaded, one)) > 1:
            print(f"{one}: the mean of its {len(pieces)} pieces, {' | '.join(pieces)}", file=sys.stderr)
    if json:
        print(jsonlib.dumps([one._asdict() for one in found], ensure_ascii=False))
        return
    print_table([("word", "cosine"), *((one.word, f"{one.similarity:.4f}") for one in found)])
