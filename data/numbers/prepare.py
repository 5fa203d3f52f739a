"""Makes the numbers corpus, English to German: numbers, dates, times and prices, written by code.

The English sentence determines the German one: words become words and digits become digits, so a model can be
exactly right. Draws come from SHA-256, so the files are the same bytes on every machine.
"""

import datetime
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from babel.dates import format_date, format_time, get_day_names, get_month_names
from babel.numbers import format_currency
from num2words import num2words
from tqdm import tqdm

from transformer_zoo.data.corpora import run, write_split

T = TypeVar("T")
Pair = tuple[str, str]


class Dice:
    """Draws that depend on a name only: not on the machine, the Python version or its hash seed."""

    def __init__(self, name: str) -> None:
        self.name, self.n_drawn = name, 0

    def between(self, low: int, high: int) -> int:
        """The next draw from low .. high, both included."""
        self.n_drawn += 1
        digest = hashlib.sha256(f"{self.name} {self.n_drawn}".encode()).digest()
        return low + int.from_bytes(digest[:8], "big") % (high - low + 1)

    def choice(self, options: Sequence[T]) -> T:
        """The next draw from a sequence."""
        return options[self.between(0, len(options) - 1)]


# Words. Below a million both languages are regular, and num2words' German needs one repair.


@cache
def cardinal(n: int) -> Pair:
    """n in words, 0 <= n < 1,000,000, as German counts: 'eins', 'einhunderteins'."""
    # num2words puts 'eins' before 'tausend': einhunderteinstausend for 101,000.
    return num2words(n).replace(",", ""), num2words(n, lang="de").replace("einstausend", "eintausend")


@cache
def ordinal(n: int) -> Pair:
    """n-th in words, 0 < n < 1,000,000; German in the form that follows 'der': 'zwölfte'."""
    english, german = num2words(n, to="ordinal"), num2words(n, lang="de", to="ordinal")
    return english.replace(",", ""), german.replace("einstausend", "eintausend")


@cache
def year(n: int) -> Pair:
    """A year in words, 1100 <= n < 2100; num2words' German has 'einshundert' for the year 100."""
    return num2words(n, to="year"), num2words(n, lang="de", to="year")


def counted(n: int, one: str = "ein") -> str:
    """German n before a noun, where 'eins' loses its s: 'ein Euro' (or `one`), 'einhundertein Euro'."""
    german = cardinal(n)[1]
    return one if n == 1 else german.removesuffix("s") if german.endswith("eins") else german


def clock(hour: int, minute: int) -> Pair:
    """A time on the 12-hour clock in words, hour 1 .. 12: 'a quarter past seven', 'Viertel nach sieben'."""
    this, following = cardinal(hour), cardinal(hour % 12 + 1)
    if minute == 0:
        return f"{this[0]} o'clock", f"{counted(hour)} Uhr"
    if minute == 30:
        return f"half past {this[0]}", f"halb {following[1]}"
    past = minute < 30
    minutes = minute if past else 60 - minute
    english, german = cardinal(minutes)
    if minutes == 15:
        english, german = "a quarter", "Viertel"
    elif minutes == 1:
        english, german = "one minute", "eine Minute"
    elif minutes % 5:
        english, german = f"{english} minutes", f"{german} Minuten"
    if past:
        return f"{english} past {this[0]}", f"{german} nach {this[1]}"
    return f"{english} to {following[0]}", f"{german} vor {following[1]}"


# English, then German: a unit, units, a hundredth, hundredths. Then the German 'one' as a direct object.
CURRENCIES = {
    "EUR": (("euro", "euros", "cent", "cents"), ("Euro", "Euro", "Cent", "Cent"), ("einen", "einen")),
    "USD": (("dollar", "dollars", "cent", "cents"), ("Dollar", "Dollar", "Cent", "Cent"), ("einen", "einen")),
    "GBP": (("pound", "pounds", "penny", "pence"), ("Pfund", "Pfund", "Penny", "Pence"), ("ein", "einen")),
}


def price(amount: int, currency: str, is_object: bool = False) -> Pair:
    """An amount given in hundredths, in words. As a direct object ('kostet'), 'ein Euro' is 'einen Euro'."""
    english, german, accusative = CURRENCIES[currency]
    parts: list[Pair] = []
    for place, n in enumerate(divmod(amount, 100)):
        noun, one = 2 * place + (n != 1), accusative[place] if is_object else "ein"
        if n:
            parts.append((f"{cardinal(n)[0]} {english[noun]}", f"{counted(n, one)} {german[noun]}"))
    return " and ".join(part[0] for part in parts), " und ".join(part[1] for part in parts)


# Digits. Patterns are spelled out: a locale's own change between Babel versions and hold no-break spaces.


def date_digits(day: datetime.date) -> Pair:
    """'May 3, 1984', '3. Mai 1984'."""
    return format_date(day, "MMMM d, y", locale="en"), format_date(day, "d. MMMM y", locale="de")


def time_digits(time: datetime.time) -> Pair:
    """'7:05 PM', '19:05 Uhr'."""
    return format_time(time, "h:mm a", locale="en"), format_time(time, "HH:mm 'Uhr'", locale="de")


def price_digits(amount: int, currency: str) -> Pair:
    """'€1,234.50', '1.234,50 €'."""
    english = format_currency(amount / 100, currency, "¤#,##0.00", locale="en")
    return english, format_currency(amount / 100, currency, "#,##0.00 ¤", locale="de")


# Sentences: what stands around the words. A frame listed twice is drawn twice as often.

BARE: Pair = ("{}", "{}")
ANY_NUMBER = [BARE] * 4 + [
    ("The answer is {}.", "Die Antwort ist {}."),
    ("Please count to {}.", "Bitte zähle bis {}."),
    ("She thought of the number {}.", "Sie dachte an die Zahl {}."),
]
COUNTED = [
    ("We counted {} votes.", "Wir haben {} Stimmen gezählt."),
    ("The town has {} inhabitants.", "Die Stadt hat {} Einwohner."),
    ("There are {} books in the library.", "In der Bibliothek gibt es {} Bücher."),
]
ORDINAL = [BARE] * 2 + [
    ("the {} attempt", "der {} Versuch"),
    ("He was the {} guest.", "Er war der {} Gast."),
    ("She was the {} visitor.", "Sie war die {} Besucherin."),
    ("This is the {} time.", "Das ist das {} Mal."),
    ("on the {} day", "am {}n Tag"),
    ("This is my {} letter.", "Das ist mein {}r Brief."),
]
YEAR = [
    BARE,
    ("in the year {}", "im Jahr {}"),
    ("She was born in {}.", "Sie wurde {} geboren."),
    ("The bridge was built in {}.", "Die Brücke wurde {} gebaut."),
    ("The house dates from the year {}.", "Das Haus stammt aus dem Jahr {}."),
]
DATE = [
    ("the {d} of {m} {y}", "der {d} {m} {y}"),
    ("{w}, the {d} of {m} {y}", "{w}, der {d} {m} {y}"),
    ("She was born on the {d} of {m} {y}.", "Sie wurde am {d}n {m} {y} geboren."),
    ("The meeting is on the {d} of {m} {y}.", "Das Treffen ist am {d}n {m} {y}."),
    ("The contract ends on {w}, the {d} of {m} {y}.", "Der Vertrag endet am {w}, dem {d}n {m} {y}."),
    ("The meeting is on the {d} of {m} {y} at {t}.", "Das Treffen ist am {d}n {m} {y} um {t}."),
]
DATE_DIGITS = [
    ("{}", "{}"),
    ("{w}, {}", "{w}, {}"),
    ("She was born on {}.", "Sie wurde am {} geboren."),
    ("The letter is dated {}.", "Der Brief ist vom {}."),
]
TIME = [
    ("{}", "{}"),
    ("It is {}.", "Es ist {}."),
    ("The train leaves at {}.", "Der Zug fährt um {} ab."),
    ("The shop closes at {}.", "Das Geschäft schließt um {}."),
    ("We meet on {w} at {}.", "Wir treffen uns am {w} um {}."),
    ("The film starts on {w} at {}.", "Der Film beginnt am {w} um {}."),
]
TIME_OF_DAY = [
    ("{} in the morning", "{} am Morgen"),
    ("{} in the evening", "{} am Abend"),
    ("It was {} in the morning.", "Es war {} am Morgen."),
    ("The concert begins at {} in the evening.", "Das Konzert beginnt um {} am Abend."),
]
PRICE = [
    ("The book costs {}.", "Das Buch kostet {}."),
    ("She owes me {}.", "Sie schuldet mir {}."),
    ("We paid {} for the tickets.", "Wir haben {} für die Karten bezahlt."),
]


def fill(frame: Pair, words: Pair = ("", ""), **named: Pair) -> Pair:
    """Puts English words into the English side of a frame and German ones into the German side."""
    english, german = (
        text.format(words[side], **{name: pair[side] for name, pair in named.items()})
        for side, text in enumerate(frame)
    )
    return english, german


def make_cardinal(dice: Dice) -> Pair:
    """A number of one to six digits."""
    digits = dice.choice((1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6))
    n = dice.between(0, 10**digits - 1)
    # A noun would inflect a final 'eins' (einhunderteine Stimmen), so those numbers stand alone.
    return fill(dice.choice(ANY_NUMBER if n == 0 or n % 100 == 1 else ANY_NUMBER + COUNTED), cardinal(n))


def make_ordinal(dice: Dice) -> Pair:
    """A position up to 99,999th."""
    n = dice.between(1, 10 ** dice.choice((2, 3, 3, 4, 4, 5)) - 1)
    return fill(dice.choice(ORDINAL), ordinal(n))


def make_year(dice: Dice) -> Pair:
    """A year from 1100 to 2099."""
    return fill(dice.choice(YEAR), year(dice.between(1100, 2099)))


def name(table: Callable[..., Mapping[int, str]], index: int) -> Pair:
    """The name of a month, 1 .. 12, or of a weekday, 0 (Monday) .. 6."""
    return table("wide", locale="en")[index], table("wide", locale="de")[index]


def make_date(dice: Dice) -> Pair:
    """A day from 1600 to 2099, two of three in words."""
    first, last = datetime.date(1600, 1, 1).toordinal(), datetime.date(2099, 12, 31).toordinal()
    day = datetime.date.fromordinal(dice.between(first, last))
    weekday, time = name(get_day_names, day.weekday()), clock(dice.between(1, 12), 5 * dice.between(0, 11))
    if dice.between(1, 3) == 1:
        return fill(dice.choice(DATE_DIGITS), date_digits(day), w=weekday)
    month = name(get_month_names, day.month)
    return fill(dice.choice(DATE), d=ordinal(day.day), m=month, y=year(day.year), w=weekday, t=time)


def make_time(dice: Dice) -> Pair:
    """A time, in words on the 12-hour clock or in digits."""
    weekday, hour, minute = name(get_day_names, dice.between(0, 6)), dice.between(0, 23), dice.between(0, 59)
    if dice.between(1, 3) == 1:
        return fill(dice.choice(TIME), time_digits(datetime.time(hour, minute)), w=weekday)
    frames = TIME + TIME_OF_DAY if 5 <= hour % 12 <= 10 else TIME
    return fill(dice.choice(frames), clock(hour % 12 or 12, minute), w=weekday)


def make_price(dice: Dice) -> Pair:
    """A price up to 9,999.99, two of three in words, half of them without hundredths."""
    units = dice.between(1, dice.choice((20, 100, 1_000, 10_000)) - 1)
    amount = 100 * units + dice.between(0, 99) * dice.between(0, 1)
    currency, frame = dice.choice(("EUR", "EUR", "USD", "GBP")), dice.choice([BARE, *PRICE])
    if dice.between(1, 3) == 1:
        return fill(frame, price_digits(amount, currency))
    return fill(frame, price(amount, currency, is_object=frame != BARE))


# How many distinct pairs of each kind, over all splits.
KINDS: dict[Callable[[Dice], Pair], int] = {
    make_cardinal: 11_000, make_ordinal: 4_000, make_year: 3_000,
    make_date: 7_500, make_time: 5_500, make_price: 5_500,
}  # fmt: skip
N_VAL, N_TEST = 500, 1_000


def distinct(kinds: dict[Callable[[Dice], Pair], int]) -> Iterator[Pair]:
    """Draws as many pairs of each kind as asked for, no English and no German sentence twice."""
    seen: set[str] = set()
    for make, n_pairs in kinds.items():
        dice = Dice(make.__name__)
        while n_pairs:
            pair = make(dice)
            if seen.isdisjoint(pair):
                seen.update(pair)
                n_pairs -= 1
                yield pair


def split(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    """Test and val are the pairs whose German sentences hash lowest; all splits stand in hash order."""
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256(pair[1].encode()).digest())
    held_out = N_VAL + N_TEST
    return {"test": ordered[:N_TEST], "val": ordered[N_TEST:held_out], "train": ordered[held_out:]}


def prepare(out: Path = Path(__file__).parent) -> None:
    """Make the numbers corpus, English to German: 35,000 pairs to train, 500 val, 1,000 test. No network.

    Args:
        out: folder for train.en, train.de, val.en, val.de, test.en and test.de; by default the script's own.
    """
    pairs = tqdm(distinct(KINDS), desc="numbers", total=sum(KINDS.values()), unit="pair", disable=None)
    for part_name, part in split(pairs).items():
        write_split(out, part_name, ("en", "de"), part)


if __name__ == "__main__":
    run(prepare)
