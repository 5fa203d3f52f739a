"""A language by any of its names: ISO 639-1 to -3, with script or country, in a model's spelling, or in English."""

import re
from collections.abc import Mapping
from functools import cache

# These are not codes of a language, but are written like one.
_COUNTRIES = {"cn": "zh", "jp": "ja"}


def words_of(language: str | None) -> list[str]:
    """The parts of its name, in small letters: __zho_Hans__ has zho and hans."""
    return re.findall(r"[^\W_]+", (language or "").lower())


def code_of(language: str | None) -> str:
    """CLDR's code of a language, such as de for deu_Latn, >>deu<<, de-AT and German; "" if none is given."""
    if not (words := words_of(language)):
        return ""
    code = _COUNTRIES.get(words[0], words[0])
    spellings = [" ".join(words), *(words if len(code) > 3 else [])]  # a code has at most three letters
    code = next((_names()[name] for name in spellings if len(name) > 3 and name in _names()), code)
    return cldr("language_aliases").get(code, code).partition("_")[0]


def cldr(table: str) -> Mapping[str, str]:
    """A table of Unicode's CLDR."""
    from babel.core import get_global  # only a named language needs it, and not every machine has it

    found: Mapping[str, str] = get_global(table)  # type: ignore[arg-type]
    return found


@cache
def _names() -> dict[str, str]:
    """The languages by their English names in small letters."""
    from babel import Locale

    found = {name.lower(): code.partition("_")[0] for code, name in Locale("en").languages.items()}
    return {**found, "mandarin": "zh", "myanmar": "my"}


def with_script(language: str) -> tuple[str, str]:
    """CLDR's code of a language, and its script, the given or the usual one: zh and Hant for zh-TW; "" if one is not
    known."""
    code, words = code_of(language), words_of(language)
    country = next((word.upper() for word in words[1:] if len(word) == 2), "")
    script = next((word.capitalize() for word in words[1:] if len(word) == 4 and word.isalpha()), "")
    return code, script or usual_script(code, country)


def usual_script(code: str, country: str = "") -> str:
    """The script in which a language is usually written there."""
    likely = cldr("likely_subtags")
    return (likely.get(f"{code}_{country}") or likely.get(code, "")).partition("_")[2].partition("_")[0]


def short_code(code: str, script: str) -> str:
    """The code of a language, with the script unless it is the usual one: de, zh-Hant."""
    return code if script == usual_script(code) else f"{code}-{script}"


def english_name(code: str, script: str) -> str:
    """A language's name, with the script unless it is the usual one: German, Chinese (Traditional)."""
    from babel import Locale

    english = Locale("en")
    name = english.languages.get(code, code)
    return name if script == usual_script(code) else f"{name} ({english.scripts.get(script, script)})"
