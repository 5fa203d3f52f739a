"""Every spelling of a language's code gives the tokenizer of its script."""

import itertools

import pytest

from transformer_zoo.evaluation.languages import bleu_tokenizer, unfit_metrics
from transformer_zoo.languages import english_name, short_code, with_script
from transformer_zoo.tokenizers.families import LANGUAGES

SPELLINGS = {
    "zh": """
        zh zho chi cmn zh_CN zh-CN zh-TW zh_HK zh_Hans zh_Hant zh-Hant-TW zho_Hans zho_Hant cmn_Hans cmn_Hant
        zho-Hans-CN yue yue_Hant yue_Hans wuu nan hak gan lzh cn __zh__ >>cmn_Hans<< >>zho<< >>zho_Hant<< Chinese
        Mandarin Cantonese zh_cn
    """,
    "ja-mecab": "ja jpn ja_XX ja-JP jpn_Jpan jp __ja__ >>jpn<< >>jpn_Hira<< >>jpn_Kana<< >>jpn_Hani<< Japanese",
    "ko-mecab": "ko kor ko_KR ko-KP kor_Hang ko_Kore __ko__ >>kor_Hang<< >>kor_Hani<< Korean",
    "char": """
        th tha th_TH tha_Thai Thai lo lao lo_LA lao_Laoo Lao km khm km_KH khm_Khmr Khmer my mya bur my_MM mya_Mymr
        Burmese Myanmar __my__ >>tha<<
    """,
    "13a": """
        en eng en_XX eng_Latn de de_DE deu_Latn >>deu<< __fr__ ru rus_Cyrl ar_AR arb_Arab hi_IN vi vie_Latn bod_Tibt
        zh_Latn cmn_Latn jpn_Latn kor_Latn tha_Latn lo_Latn mon ms mal may kr tw ii xx klingon German Tonga _ -
    """,
}
CODES = [(tokenizer, code) for tokenizer, codes in SPELLINGS.items() for code in codes.split()]


@pytest.mark.parametrize(("tokenizer", "code"), CODES)
def test_a_spelling_has_its_tokenizer_in_any_case(tokenizer: str, code: str) -> None:
    assert {bleu_tokenizer(x) for x in (code, code.lower(), code.upper(), f" {code} ")} == {tokenizer}


@pytest.mark.parametrize(
    "name", ["Simplified Chinese", "Chinese (Simplified)", "Traditional Chinese", "Mandarin Chinese", "Min Nan Chinese"]
)
def test_a_name_of_several_words(name: str) -> None:
    assert bleu_tokenizer(name) == "zh"


@pytest.mark.parametrize("nothing", [None, "", " ", "_", "<<>>"])
def test_no_language_is_13a(nothing: str | None) -> None:
    assert bleu_tokenizer(nothing) == "13a"


def test_the_languages_of_all_multilingual_models_go_by_their_script() -> None:
    others = (
        {"zh", "zh_CN", "zho_Hans", "zho_Hant", "yue_Hant"},
        {"ja", "ja_XX", "jpn_Jpan"},
        {"ko", "ko_KR", "kor_Hang"},
    )
    char = {
        "th",
        "lo",
        "km",
        "my",
        "th_TH",
        "km_KH",
        "my_MM",
        "tha_Thai",
        "lao_Laoo",
        "khm_Khmr",
        "mya_Mymr",
        "shn_Mymr",
    }
    wanted = dict(zip(("zh", "ja-mecab", "ko-mecab", "char"), (*others, char), strict=True))
    found: dict[str, set[str]] = {}
    for code in itertools.chain.from_iterable(LANGUAGES.values()):
        found.setdefault(bleu_tokenizer(code), set()).add(code)
    assert len(found.pop("13a")) > 200
    assert found == wanted


@pytest.mark.parametrize(
    ("language", "warned"), [("zh", True), ("ja_XX", True), ("tha_Thai", True), ("ko", False), ("de", False)]
)
def test_metrics_that_count_words_are_warned_of_where_a_language_sets_no_spaces(language: str, warned: bool) -> None:
    assert unfit_metrics(["bleu", "chrf"], language) is None
    for name in ("ter", "chrf++"):
        said = unfit_metrics(["bleu", name], language)
        assert (said is not None) == warned
        assert said is None or said.startswith(f"{name} of text in {language} ")


@pytest.mark.parametrize(
    ("spelling", "language"),
    [
        ("de", ("de", "Latn")), ("deu_Latn", ("de", "Latn")), (">>deu<<", ("de", "Latn")), ("German", ("de", "Latn")),
        ("zh", ("zh", "Hans")), ("zh-TW", ("zh", "Hant")), ("zho_Hant", ("zh", "Hant")), ("zh_CN", ("zh", "Hans")),
        ("sr_Latn", ("sr", "Latn")), ("srp_Cyrl", ("sr", "Cyrl")), ("en_XX", ("en", "Latn")), ("tlhx", ("tlhx", "")),
        ("", ("", "")),
    ],
)  # fmt: skip
def test_a_spelling_has_its_language_and_script(spelling: str, language: tuple[str, str]) -> None:
    assert with_script(spelling) == language
    assert spelling == "" or with_script(short_code(*language)) == language


def test_a_language_is_called_by_its_english_name() -> None:
    assert english_name("sr", "Cyrl") == "Serbian"
    assert english_name("sr", "Latn").startswith("Serbian (")
    assert english_name("tlhx", "") == "tlhx"
