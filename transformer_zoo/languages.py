"""A language by whatever it is called: ISO 639-1 to -3, with script or country, as models spell it, or in English."""

import re
from collections.abc import Mapping
from functools import cache

# No codes of a language, but written as such.
_COUNTRIES = {"cn": "zh", "jp": "ja"}


def words_of(language: str | None) -> list[str]:
    """What its name consists of, in small letters: __zho_Hans__ of zho and hans."""
    return re.findall(r"[^\W_]+", (language or "").lower())


def code_of(language: str | None) -> str:
    """CLDR's code of a language, such as de for deu_Latn, >>deu<<, de-AT and German; "" where none is given."""
    if not (words := words_of(language)):
        return ""
    code = _COUNTRIES.get(words[0], words[0])
    spellings = [" ".join(words), *(words if len(code) > 3 else [])]  # a code has at most three letters
    code = next((_names()[name] for name in spellings if len(name) > 3 and name in _names()), code)
    return cldr("language_aliases").get(code, code).partition("_")[0]


def cldr(table: str) -> Mapping[str, str]:
    """A table of Unicode's CLDR."""
    from babel.core import get_global  # only a language that is named needs it, and not every machine has it

    found: Mapping[str, str] = get_global(table)  # type: ignore[arg-type]
    return found


@cache
def _names() -> dict[str, str]:
    """The languages by their English names in small letters."""
    from babel import Locale

    found = {name.lower(): code.partition("_")[0] for code, name in Locale("en").languages.items()}
    return {**found, "mandarin": "zh", "myanmar": "my"}
