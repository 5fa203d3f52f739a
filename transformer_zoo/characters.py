"""Which characters of a text count: whether anything is visible, and what two near-copies share."""

import unicodedata

import regex

EMPTY = "empty"
INVISIBLE = "invisible (zero-width, direction and control characters alone)"

# Among the format characters, those that stand before a number are visible. U+2800 is the blank of Braille.
_SEEN = regex.compile(r"[^\s\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]|\p{Prepended_Concatenation_Mark}")
_LEFT_OUT = regex.compile(r"[\p{P}\p{Z}\p{Cc}\p{Cf}]+")


def why_blank(text: str) -> str | None:
    """`EMPTY` for nothing or white space, `INVISIBLE` if there are characters but none is visible; otherwise None."""
    if _SEEN.search(text):
        return None
    return INVISIBLE if text.strip() else EMPTY


def is_blank(text: str) -> bool:
    """Whether no character of the text is visible."""
    return why_blank(text) is not None


def bare(text: str) -> str:
    """The text in Unicode's NFKC, case folded, without punctuation and white space: "Hi, Tom!" and "hi tom" are equal.

    A text of only punctuation and white space stays as NFKC gives it.
    """
    normal = unicodedata.normalize("NFKC", text)
    folded = unicodedata.normalize("NFKC", normal.casefold())
    return _LEFT_OUT.sub("", folded) or normal.strip()
