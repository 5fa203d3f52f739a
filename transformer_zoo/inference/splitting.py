"""Lines that are much longer than what a model was trained on, cut into pieces that are translated apart."""

import re
from collections.abc import Callable, Iterator

from transformer_zoo.tokenizers.tokenizer import Tokenizer

# A line is cut when it has more than so many times the tokens of the longest source in training.
_WELL_BEYOND = 1.5

# Ends of sentences: punctuation, what closes after it, space; the full-width ones need no space. Not the period of an
# initial or of "e.g.". Then spaces.
_ENDS = re.compile(r"(?:(?<!\b\w)\.|[!?…؟۔।])[\"')\]»”’]*\s+|[。！？]+[」』”’）》]*\s*")
_SPACES = re.compile(r"\s+")


def is_long(n_tokens: int, *, trained: int, holds: int) -> bool:
    """Whether a source of so many tokens is well beyond what the model knows; arguments as for `cut_line`."""
    return n_tokens > min(_WELL_BEYOND * trained, holds)


def cut_line(source: Tokenizer, text: str, ids: list[int], *, trained: int, holds: int) -> list[list[int]]:
    """Ids of the pieces of a line; mostly the one that it is.

    Args:
        source: tokenizer.
        text, ids: the line.
        trained: tokens of the longest source in training, eos included.
        holds: the most that the model can be given.
    """
    if not is_long(len(ids) + 1, trained=trained, holds=holds):
        return [ids]
    tag = source.tag_of(text)

    def encode(part: str) -> list[int]:
        return source.encode_batch([tag + part])[0]

    def fits(part: str, limit: int) -> bool:
        return len(encode(part)) < limit

    parts = split_text(
        text.removeprefix(tag).strip(), lambda part: fits(part, min(trained, holds)), lambda part: fits(part, holds)
    )
    return list(map(encode, parts))


def split_text(text: str, fits: Callable[[str], bool], held: Callable[[str], bool]) -> list[str]:
    """Halve a text until every piece `fits`, at ends of sentences only. A sentence is halved until it is `held`: at a
    space, else anywhere.

    Of the places to cut at, the one nearest to the middle is taken.
    """
    if fits(text) or len(text) < 2:
        return [text]
    ends = list(_ends(_ENDS, text))
    if not ends and held(text):
        return [text]
    ends = ends or list(_ends(_SPACES, text)) or [len(text) // 2]
    cut = min(ends, key=lambda end: abs(2 * end - len(text)))
    return [piece for half in (text[:cut], text[cut:]) for piece in split_text(half.strip(), fits, held)]


def _ends(pattern: re.Pattern[str], text: str) -> Iterator[int]:
    return (match.end() for match in pattern.finditer(text) if match.end() < len(text))
