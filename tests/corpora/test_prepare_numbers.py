"""data/numbers: correct German by hand, one German sentence for one English, splits that share nothing."""

import datetime
import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "data" / "numbers" / "prepare.py"

# They change when num2words or Babel change what they write. Look at the difference before replacing them:
# results on this corpus are comparable only while they hold.
SHA256 = {
    "test.de": "e12dd822ea838ef59e8291e5c716a8f2a3f45919e00995ee1652da84179745b6",
    "test.en": "4a052c8650363cffc1786c8acc12d9602007b79348a47fb289ebbd1e87160c6e",
    "train.de": "220753495efa929184ebcbd013baaa54ccb8d6357db0b116b61678655b6bc724",
    "train.en": "26a427358881975a303aa7f313db9558a16aede77e90b00f4ff250c864353036",
    "val.de": "abb8acec1dacd4f49f248e8ae786b819a4cccaead96dbac3b2668e994d4dc7b2",
    "val.en": "37a6c8ea3a7b4d1a28e181ab050986fdaa44ab3f0e8555f1d1a6605df8ebaebf",
}


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_numbers", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


numbers = load()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    out = tmp_path_factory.mktemp("numbers")
    numbers.prepare(out)
    return {path.name: path.read_text(encoding="utf-8").splitlines() for path in sorted(out.iterdir())}


def test_the_files_are_the_same_bytes_everywhere(corpus: dict[str, list[str]]) -> None:
    sums = {
        name: hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()
        for name, lines in corpus.items()
    }
    assert sums == SHA256


def test_split_sizes(corpus: dict[str, list[str]]) -> None:
    sizes = {name: len(lines) for name, lines in corpus.items()}
    expected = {"train": 35_000, "val": 500, "test": 1_000}
    assert sizes == {f"{split}.{language}": n for split, n in expected.items() for language in ("en", "de")}


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_sentence_occurs_twice_in_the_whole_corpus(corpus: dict[str, list[str]], language: str) -> None:
    sentences = [line for split in ("train", "val", "test") for line in corpus[f"{split}.{language}"]]
    assert len(set(sentences)) == len(sentences) == 36_500


def test_every_sentence_is_clean_text(corpus: dict[str, list[str]]) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZäöüßÄÖÜ0123456789 .,:-'€$£")
    for name, lines in corpus.items():
        for line in lines:
            assert set(line) <= allowed, (name, line)
            assert line == " ".join(line.split()), (name, line)
            assert len(line.split()) <= 20, (name, line)


@pytest.mark.parametrize("make", list(numbers.KINDS), ids=lambda make: make.__name__)
def test_an_english_sentence_has_one_german_sentence(make: object) -> None:
    german: dict[str, str] = {}
    dice = numbers.Dice("another name than the corpus uses")
    for _ in range(3_000):
        source, target = make(dice)  # type: ignore[operator]
        assert german.setdefault(source, target) == target


def test_kinds_agree_where_their_english_is_the_same() -> None:
    german: dict[str, str] = {}
    pairs = [numbers.cardinal(n) for n in range(3_000)] + [numbers.year(n) for n in range(1100, 2100)]
    for source, target in pairs:
        assert german.setdefault(source, target) == target


def test_dice_do_not_move() -> None:
    # First 8 bytes of SHA-256("a 1") and ("a 2"), modulo 1000.
    dice = numbers.Dice("a")
    expected = [int(hashlib.sha256(text).hexdigest()[:16], 16) % 1_000 for text in (b"a 1", b"a 2")]
    assert [dice.between(0, 999), dice.between(0, 999)] == expected
    assert 5 <= dice.between(5, 6) <= 6


@pytest.mark.parametrize(
    ("n", "english", "german"),
    [
        (0, "zero", "null"),
        (1, "one", "eins"),
        (16, "sixteen", "sechzehn"),
        (17, "seventeen", "siebzehn"),
        (21, "twenty-one", "einundzwanzig"),
        (30, "thirty", "dreißig"),
        (101, "one hundred and one", "einhunderteins"),
        (1_000, "one thousand", "eintausend"),
        (1_001, "one thousand and one", "eintausendeins"),
        (12_345, "twelve thousand three hundred and forty-five", "zwölftausenddreihundertfünfundvierzig"),
        (21_000, "twenty-one thousand", "einundzwanzigtausend"),
        (101_000, "one hundred and one thousand", "einhunderteintausend"),
        (601_101, "six hundred and one thousand one hundred and one", "sechshunderteintausendeinhunderteins"),
    ],
)
def test_cardinals(n: int, english: str, german: str) -> None:
    assert numbers.cardinal(n) == (english, german)


@pytest.mark.parametrize(
    ("n", "english", "german"),
    [
        (1, "first", "erste"),
        (3, "third", "dritte"),
        (7, "seventh", "siebte"),
        (8, "eighth", "achte"),
        (12, "twelfth", "zwölfte"),
        (19, "nineteenth", "neunzehnte"),
        (20, "twentieth", "zwanzigste"),
        (31, "thirty-first", "einunddreißigste"),
        (103, "one hundred and third", "einhundertdritte"),
        (1_101, "one thousand one hundred and first", "eintausendeinhunderterste"),
        (101_007, "one hundred and one thousand and seventh", "einhunderteintausendsiebte"),
    ],
)
def test_ordinals(n: int, english: str, german: str) -> None:
    assert numbers.ordinal(n) == (english, german)


@pytest.mark.parametrize(
    ("n", "english", "german"),
    [
        (1100, "eleven hundred", "elfhundert"),
        (1201, "twelve oh-one", "zwölfhunderteins"),
        (1984, "nineteen eighty-four", "neunzehnhundertvierundachtzig"),
        (2000, "two thousand", "zweitausend"),
        (2001, "two thousand and one", "zweitausendeins"),
        (2024, "twenty twenty-four", "zweitausendvierundzwanzig"),
    ],
)
def test_years(n: int, english: str, german: str) -> None:
    assert numbers.year(n) == (english, german)


@pytest.mark.parametrize(
    ("hour", "minute", "english", "german"),
    [
        (1, 0, "one o'clock", "ein Uhr"),
        (7, 0, "seven o'clock", "sieben Uhr"),
        (7, 15, "a quarter past seven", "Viertel nach sieben"),
        (1, 15, "a quarter past one", "Viertel nach eins"),
        (7, 30, "half past seven", "halb acht"),
        (12, 30, "half past twelve", "halb eins"),
        (7, 45, "a quarter to eight", "Viertel vor acht"),
        (12, 50, "ten to one", "zehn vor eins"),
        (6, 1, "one minute past six", "eine Minute nach sechs"),
        (6, 39, "twenty-one minutes to seven", "einundzwanzig Minuten vor sieben"),
    ],
)
def test_times(hour: int, minute: int, english: str, german: str) -> None:
    assert numbers.clock(hour, minute) == (english, german)


@pytest.mark.parametrize(
    ("amount", "currency", "english", "subject", "direct_object"),
    [
        (100, "EUR", "one euro", "ein Euro", "einen Euro"),
        (101, "EUR", "one euro and one cent", "ein Euro und ein Cent", "einen Euro und einen Cent"),
        (
            10_105,
            "EUR",
            "one hundred and one euros and five cents",
            *["einhundertein Euro und fünf Cent"] * 2,
        ),
        (2_100, "USD", "twenty-one dollars", *["einundzwanzig Dollar"] * 2),
        (101, "GBP", "one pound and one penny", "ein Pfund und ein Penny", "ein Pfund und einen Penny"),
        (1_250, "GBP", "twelve pounds and fifty pence", *["zwölf Pfund und fünfzig Pence"] * 2),
    ],
)
def test_prices(amount: int, currency: str, english: str, subject: str, direct_object: str) -> None:
    assert numbers.price(amount, currency) == (english, subject)
    assert numbers.price(amount, currency, is_object=True) == (english, direct_object)


def test_digits() -> None:
    assert numbers.date_digits(datetime.date(1984, 5, 3)) == ("May 3, 1984", "3. Mai 1984")
    assert numbers.time_digits(datetime.time(19, 5)) == ("7:05 PM", "19:05 Uhr")
    assert numbers.time_digits(datetime.time(0, 30)) == ("12:30 AM", "00:30 Uhr")
    assert numbers.price_digits(123_450, "EUR") == ("€1,234.50", "1.234,50 €")
    assert numbers.price_digits(705, "GBP") == ("£7.05", "7,05 £")


def test_words_are_inflected_to_fit_their_sentence() -> None:
    def fill(english: str, german: str, words: tuple[str, str]) -> tuple[str, str]:
        return tuple(numbers.fill((english, german), words))

    frames = dict(numbers.ORDINAL)
    letter, day = "This is my {} letter.", "on the {} day"
    assert fill(letter, frames[letter], numbers.ordinal(12))[1] == "Das ist mein zwölfter Brief."
    assert fill(day, frames[day], numbers.ordinal(3)) == ("on the third day", "am dritten Tag")


def test_weekdays_and_months_fit_the_calendar(corpus: dict[str, list[str]]) -> None:
    # 20 December 1831 was a Tuesday.
    at = corpus["test.en"].index("Tuesday, December 20, 1831")
    assert corpus["test.de"][at] == "Dienstag, 20. Dezember 1831"
