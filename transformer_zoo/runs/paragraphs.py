"""A text as lines, which are translated, and the white space between them, which stays."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from transformer_zoo.characters import is_blank
from transformer_zoo.inference import Translation
from transformer_zoo.inference.pieces import join, ranks
from transformer_zoo.runs.load import Run, TextRun


def laid_out(text: str, run: Run | TextRun) -> list[str]:
    """White space and lines alternate, white space first and last; none of the lines is blank. A prompt is one line.

    A tag at the start of a text, such as the language to translate to, applies to all of its lines.
    """
    if not isinstance(run, Run):
        return ["", text, ""]
    parts, tag_of = [""], run.tokenizer.source.tag_of
    for line in text.splitlines(keepends=True):
        bare = "" if is_blank(line) else line.strip()
        before, _, after = line.partition(bare) if bare else (line, "", "")
        parts[-1] += before
        parts += [bare, after] if bare else []
    tag = tag_of(parts[1]) if len(parts) > 1 else ""
    parts[3::2] = [line if tag_of(line) else tag + line for line in parts[3::2]]
    return parts


def put_back(found: Iterator[list[Translation]], shown: deque[list[str]]) -> Iterator[list[Translation]]:
    """The translations of each text: those of its lines, rank by rank, in the places of the lines."""
    for first in found:
        parts = shown.popleft()
        ranked = ranks([first, *islice(found, len(parts[3::2]))])
        yield [_joined(parts, lines) for lines in ranked]


def _joined(parts: list[str], lines: list[Translation]) -> Translation:
    whole = lines[0]
    for between, line in zip(parts[2::2], lines[1:], strict=False):
        whole = join(whole, line, between)
    return replace(whole, text=f"{parts[0]}{whole.text}{parts[-1]}" if len(parts) > 1 else parts[0])
