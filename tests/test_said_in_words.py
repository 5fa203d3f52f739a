"""What a value of a type must be, said in words; names that are nearly right."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, PositiveInt

from transformer_zoo.words import did_you_mean, expected, fits, names_of, nearest, unfit


@dataclass
class Inner:
    size: int = 1
    kind: Literal["bpe", "unigram"] = "bpe"


@dataclass
class Outer:
    name: str = ""
    rate: float | None = None
    pair: tuple[float, float] = (0.0, 1.0)
    inner: Inner = field(default_factory=Inner)
    tests: dict[str, Inner] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("hint", "fitting", "not_fitting", "words"),
    [
        (int, [0, -3, "5", 2**63 - 1], [True, 1.5, "x", None, [1], 2**63, "1e3"], "a whole number"),
        (float, [0, 1.5, "1e-3"], [True, "x", float("nan"), float("inf"), [1], None], "a number"),
        (bool, [True, False, "true"], [1, "maybe", None, []], "true or false"),
        (str, ["", "x"], [1, True, None, ["x"], {}], "text"),
        (PositiveInt, [1, "7"], [0, -1, "x", 1.5, True], "a whole number above 0"),
        (NonNegativeInt, [0], [-1], "a whole number from 0 on"),
        (ClosedUnitInterval, [0, 0.5, 1], [1.1, -0.1, "x"], "a number from 0 to 1"),
        (int | None, [1, None], ["x", 1.5], "a whole number"),
        (int | Literal["preset"], [1, "preset"], ["x", 1.5, None], "a whole number"),
        (str | list[str], ["x", ["x"], []], [1, [1], {}], "text or a list, each text"),
        (tuple[float, float], [[0.1, 1]], [0.1, [0.1], [1, "x"]], "a list of 2, each a number"),
        (tuple[int, ...] | None, [[1, 2], None, []], [[1.5], 1], "a list, each a whole number"),
        (Literal["a", "b"], ["a"], ["c", 1, ["a"], None], "one of a, b"),
        (Path, ["x"], [1, None], "a path"),
    ],
)
def test_a_value_fits_its_type_or_not(hint: Any, fitting: list[Any], not_fitting: list[Any], words: str) -> None:
    assert [value for value in fitting if not fits(hint, value)] == []
    assert [value for value in not_fitting if fits(hint, value)] == []
    assert expected(hint) == words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("naem: x", "naem: no such field; did you mean name?"),
        ("inner: {siz: 1}", "inner.siz: no such field; did you mean inner.size?"),
        ("iner: {}", "iner: no such field; did you mean inner?"),
        ("size: 1", "size: no such field; did you mean inner.size?"),
        ("zebra: 1", "zebra: no such field; there are name, rate, pair, inner, tests"),
        ("1: x", "1: no such field; there are name, rate, pair, inner, tests"),
        ("inner: 5", "inner is 5: give its fields below it, or leave it out"),
        ("inner:", "inner is empty: give its fields below it, or leave it out"),
        ("name:", "name is empty: give it a value, or leave the line out"),
        ("name: yes", "name is True, expected text (YAML takes yes, no, on and off for true and false: write it in "
                      "quotes)"),
        ("name: 2001-01-01", "name is datetime.date(2001, 1, 1), expected text (write it in quotes)"),
        ("rate: fast", "rate is 'fast', expected a number"),
        ("rate: .inf", "rate is inf, expected a number, a finite one"),
        ("inner: {size: 9999999999999999999}", "inner.size is 9999999999999999999, expected a whole number below 2^63"),
        ('name: "a\\0b"', "name is 'a\\x00b', expected text without NUL"),
        ("inner: {kind: bp}", "inner.kind is 'bp', expected one of bpe, unigram; did you mean bpe?"),
        ("tests: {one: {size: x}}", "tests.one.size is 'x', expected a whole number"),
        ("tests: {one: x}", "tests.one is 'x': give its fields below it, or leave it out"),
        ("tests: [1]", "tests is [1], expected names with fields below each"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_field_is_said_in_words(text: str, said: str) -> None:
    assert unfit(Outer, yaml.safe_load(text), "") == said


def test_a_value_that_contains_itself_or_explodes_is_shown_in_short() -> None:
    lines = [f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]" for m, n in zip("abcdefghi", "bcdefghij", strict=True)]
    bomb = yaml.safe_load("a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(lines))["j"]
    for value in (yaml.safe_load("&a [*a]"), yaml.safe_load("&a {b: *a}"), bomb, "x" * 10**6):
        said = unfit(Outer, {"rate": value}, "")
        assert said is not None
        assert len(said) < 300


def test_the_name_that_was_meant_may_be_in_another_section() -> None:
    names = list(names_of(Outer))
    assert names == ["name", "rate", "pair", "inner", "inner.size", "inner.kind", "tests"]
    assert nearest("outer.kind", names) == "inner.kind"
    assert nearest("tset", ["test", "train"]) == "test"
    assert nearest("zebra", names) is None
    assert did_you_mean("zebra", names, "; none") == "; none"
