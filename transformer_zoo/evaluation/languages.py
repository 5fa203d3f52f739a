"""Which of sacreBLEU's tokenizers fits a language: BLEU counts words, and not every script separates them."""

from collections.abc import Sequence

from transformer_zoo.languages import usual_script, with_script

# By script (ISO 15924). 13a, sacreBLEU's default, takes the text between two spaces for a word.
_BY_SCRIPT = {
    **dict.fromkeys(("Hans", "Hant", "Hani", "Bopo"), "zh"),
    **dict.fromkeys(("Jpan", "Hira", "Kana", "Hrkt"), "ja-mecab"),
    **dict.fromkeys(("Kore", "Hang"), "ko-mecab"),
    **dict.fromkeys(("Thai", "Laoo", "Khmr", "Mymr"), "char"),
}
_DEFAULT = "13a"


def bleu_tokenizer(language: str | None) -> str:
    """The name of sacreBLEU's tokenizer for text in this language: zh, ja-mecab, ko-mecab, char, or 13a for all others.
    >>> bleu_tokenizer("zh_CN"), bleu_tokenizer("German")
    ('zh', '13a')

    Args:
        language: In any spelling: ISO 639-1 to -3 (zh, zho, chi, cmn), with script or country (zh_Hans, zh-TW), in the
            form of mBART (zh_CN), M2M-100 (__zh__), NLLB (zho_Hans) or Marian (>>cmn_Hans<<), or the English name. The
            language's usual script comes from Unicode's CLDR. None: not known.
    """
    code, script = with_script(language or "")
    own, given = (_BY_SCRIPT.get(one, _DEFAULT) for one in (usual_script(code), script))
    # Japanese in kana, or in Chinese characters alone, is Japanese; in Latin letters it has spaces.
    return given if _DEFAULT in (own, given) else own


def unfit_metrics(metrics: Sequence[str], language: str | None) -> str | None:
    """A warning that metrics count words between spaces, which the language does not have; None: no warning is
    needed."""
    unfit = [name for name in metrics if name in ("ter", "chrf++")]
    if not unfit or bleu_tokenizer(language) not in ("zh", "ja-mecab", "char"):
        return None
    return (
        f"{' and '.join(unfit)} of text in {language} says little: a word is what stands between two spaces, of which "
        "there are few; take bleu or chrf"
    )
