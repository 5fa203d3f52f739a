"""What of a text counts: whether anything of it can be seen, and what two copies of it share."""

import unicodedata

import regex

EMPTY = "empty"
INVISIBLE = "invisible (zero-width, direction and control characters alone)"

# Of the format characters those are seen that stand before a number. U+2800 is the blank of Braille.
_SEEN = regex.compile(r"[^\s\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]|\p{Prepended_Concatenation_Mark}")
_LEFT_OUT = regex.compile(r"[\p{P}\p{Z}\p{Cc}\p{Cf}]+")


def why_blank(text: str) -> str | None:
    """`EMPTY` for nothing or white space, `INVISIBLE` where there are characters but none is seen; None else."""
    if _SEEN.search(text):
        return None
    return INVISIBLE if text.strip() else EMPTY


def is_blank(text: str) -> bool:
    """Whether nothing of the text can be seen."""
    return why_blank(text) is not None


def bare(text: str) -> str:
    """The text in Unicode's NFKC, case folded, without punctuation and white space: "Hi, Tom!" and "hi tom" are one.

    A text of nothing else stays as NFKC has it.
    """
    normal = unicodedata.normalize("NFKC", text)
    folded = unicodedata.normalize("NFKC", normal.casefold())
    return _LEFT_OUT.sub("", folded) or normal.strip()
