"""Sentences that are held out, and stand in the training text all the same."""

from transformer_zoo.data import ParallelText
from transformer_zoo.data.splits import Leaks, Shared, find_leaks


def text(*pairs: tuple[str, str]) -> ParallelText:
    return ParallelText([source for source, _ in pairs], [target for _, target in pairs])


TRAIN = text(("One.", "Eins."), ("Two.", "Zwei."), ("Three.", "Drei."), ("Four", "Vier"))


def test_sources_targets_and_pairs_are_counted_exactly_and_nearly() -> None:
    held_out = text(
        ("One.", "Eins."),  # the pair
        ("One.", "Zwei."),  # both sides, and never together
        ("TWO", "zwei!"),  # the pair, nearly
        ("Five.", "Ｄｒｅｉ"),  # its target, nearly
        ("Six.", "Sechs."),
        ("", ""),
    )
    found = find_leaks(TRAIN, {"test": held_out, "validation": text(("Seven", "Sieben"))})
    assert found["test"] == Leaks(6, Shared(2, 2, 1), Shared(3, 4, 2))
    assert found["test"]
    assert found["validation"] == Leaks(1, Shared(0, 0, 0), Shared(0, 0, 0))
    assert not found["validation"]


def test_blank_sides_are_no_leak() -> None:
    train = text(("One", ""), ("\u200b", "Zwei"))
    assert not find_leaks(train, {"test": text(("", ""), ("\u200b", ""), (" ", "\ufeff"))})["test"]


def test_repeated_lines_of_a_test_count_each() -> None:
    assert find_leaks(TRAIN, {"test": text(*[("One.", "Eins.")] * 3)})["test"].exact == Shared(3, 3, 3)


def test_the_report_is_one_line() -> None:
    said = "of its 4 pairs 4 sources, 4 targets, 4 pairs stand in the training text too"
    assert str(find_leaks(TRAIN, {"test": TRAIN})["test"]) == said
    said = (
        "of its 1 pairs 0 sources, 0 targets, 0 pairs stand in the training text too; 1 sources, 0 targets, 0 pairs but"
    )
    assert str(find_leaks(TRAIN, {"test": text(("one!", "x"))})["test"]).startswith(said)
