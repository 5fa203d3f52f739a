"""What of a text counts: whether anything of it can be seen, and what two copies of it share."""

import unicodedata

EMPTY = "empty"
INVISIBLE = "invisible (zero-width, direction and control characters alone)"

# Of the format characters these are seen: signs that stand before a number, and a sura's end.
_SEEN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
# Letters, marks and symbols without a picture: fillers, joiners, variation selectors, the blank of Braille.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2065\u2800\u3164\uffa0").union(
    *(map(chr, range(*ends)) for ends in ((0x180B, 0x1810), (0xFE00, 0xFE10), (0xFFF0, 0xFFF9), (0xE0000, 0xE1000)))
)


def why_blank(text: str) -> str | None:
    """`EMPTY` for nothing or white space, `INVISIBLE` where there are characters but none is seen; None else."""
    invisible = False
    for char in text:
        if not char.isspace():
            if not _is_invisible(char):
                return None
            invisible = True
    return INVISIBLE if invisible else EMPTY


def is_blank(text: str) -> bool:
    """Whether nothing of the text can be seen."""
    return why_blank(text) is not None


def _is_invisible(char: str) -> bool:
    return char in _UNSEEN or (unicodedata.category(char) in ("Cc", "Cf") and char not in _SEEN)


class _Kept(dict[int, int | None]):
    """What `str.translate` makes of a character: itself, or nothing of punctuation, white space and control."""

    def __missing__(self, code: int) -> int | None:
        category = unicodedata.category(chr(code))
        self[code] = None if category[0] in "PZ" or category in ("Cc", "Cf") else code
        return self[code]


_KEPT = _Kept()


def bare(text: str) -> str:
    """The text in Unicode's NFKC, case folded, without punctuation and white space: "Hi, Tom!" and "hi tom" are one.

    A text of nothing else stays as NFKC has it.
    """
    normal = unicodedata.normalize("NFKC", text)
    folded = unicodedata.normalize("NFKC", normal.casefold())
    return folded.translate(_KEPT) or normal.strip()
