"""Which of sacreBLEU's tokenizers fits a language: BLEU counts words, and not every script sets them apart."""

import re
from collections.abc import Mapping, Sequence
from functools import cache

# By script (ISO 15924). 13a, sacreBLEU's default, takes what stands between two spaces for a word.
_BY_SCRIPT = {
    **dict.fromkeys(("Hans", "Hant", "Hani", "Bopo"), "zh"),
    **dict.fromkeys(("Jpan", "Hira", "Kana", "Hrkt"), "ja-mecab"),
    **dict.fromkeys(("Kore", "Hang"), "ko-mecab"),
    **dict.fromkeys(("Thai", "Laoo", "Khmr", "Mymr"), "char"),
}
_DEFAULT = "13a"
# No codes of a language, but written as such.
_COUNTRIES = {"cn": "zh", "jp": "ja"}


def bleu_tokenizer(language: str | None) -> str:
    """The name of sacreBLEU's tokenizer for text in this language: zh, ja-mecab, ko-mecab, char, or 13a for all others.
    >>> bleu_tokenizer("zh_CN"), bleu_tokenizer("German")
    ('zh', '13a')

    Args:
        language: In any spelling: ISO 639-1 to -3 (zh, zho, chi, cmn), with script or country (zh_Hans, zh-TW), as
            mBART (zh_CN), M2M-100 (__zh__), NLLB (zho_Hans) and Marian (>>cmn_Hans<<) have it, or the English name.
            The language's usual script comes from Unicode's CLDR. None: not known.
    """
    words = re.findall(r"[^\W_]+", (language or "").lower())
    if not words:
        return _DEFAULT
    code = _code(words)
    usual = _cldr("likely_subtags").get(code, "").partition("_")[2].partition("_")[0]
    own = _BY_SCRIPT.get(usual, _DEFAULT)
    script = next((word.capitalize() for word in words[1:] if len(word) == 4 and word.isalpha()), usual)
    given = _BY_SCRIPT.get(script, _DEFAULT)
    # Japanese in kana, or in Chinese characters alone, is Japanese; in Latin letters it has spaces.
    return given if _DEFAULT in (own, given) else own


def _code(words: list[str]) -> str:
    """CLDR's code of a language that is spelt in these words of small letters."""
    code = _COUNTRIES.get(words[0], words[0])
    spellings = [" ".join(words), *(words if len(code) > 3 else [])]  # a code has at most three letters
    code = next((_names()[name] for name in spellings if len(name) > 3 and name in _names()), code)
    return _cldr("language_aliases").get(code, code).partition("_")[0]


def _cldr(table: str) -> Mapping[str, str]:
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


def unfit_metrics(metrics: Sequence[str], language: str | None) -> str | None:
    """What to say where metrics go by the words between spaces, and the language sets none; None where all is well."""
    unfit = [name for name in metrics if name in ("ter", "chrf++")]
    if not unfit or bleu_tokenizer(language) not in ("zh", "ja-mecab", "char"):
        return None
    return (
        f"{' and '.join(unfit)} of text in {language} says little: a word is what stands between two spaces, of which "
        "there are few; take bleu or chrf"
    )
