"""What is blank, and what two copies of a text share."""

import sys
import unicodedata

import pytest

from transformer_zoo.characters import EMPTY, INVISIBLE, bare, is_blank, why_blank

FORMAT = ["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u200e", "\u200f", "\u202e", "\u2066", "\u061c", "\u00ad"]


@pytest.mark.parametrize("text", ["", " ", "\t \n", "\u00a0\u3000\u2028", "\x1c", "\x85"])
def test_nothing_and_white_space_are_empty(text: str) -> None:
    assert why_blank(text) == EMPTY


@pytest.mark.parametrize("text", [*FORMAT, "\0", "\x07\x1b", "\u3164", "\u2800", "\ufe0f", "".join(FORMAT), " \u200b "])
def test_zero_width_direction_and_control_characters_are_invisible(text: str) -> None:
    assert why_blank(text) == INVISIBLE


@pytest.mark.parametrize("text", ["a", "\u200b.", "0", "\u0301", "\u0600", "\ue000", "🙂", "\u200ba\u200b"])
def test_one_character_that_is_seen_is_enough(text: str) -> None:
    assert not is_blank(text)


def test_no_letter_number_or_punctuation_is_blank() -> None:
    fillers = set("\u115f\u1160\u3164\uffa0")
    for char in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(char)[0] in "LNP" and char not in fillers:
            assert not is_blank(char), hex(ord(char))


def test_near_copies_share_a_form() -> None:
    assert bare("Hi, Tom!") == bare("hi tom.") == "hitom"
    assert bare("ＡＢＣ １２") == bare("abc12") == "abc12"
    assert bare("Straße") == bare("STRASSE")
    assert bare("e\u0301") == bare("é")
    assert bare("ﬁ\u200bn\u00ad") == "fin"
    assert bare("हिन्दी") != bare("हन्द")  # vowel signs are marks, and count
    assert bare("5 €") != bare("5 $")
    assert bare("?!") == "?!" != bare("...")
