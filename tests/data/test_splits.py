"""Splits in which nothing held out was seen: from either side, nor as a near-copy."""

from collections.abc import Mapping

import pytest

from transformer_zoo.characters import bare
from transformer_zoo.data.splits import assign, digest, keys, split_pairs
from transformer_zoo.errors import UserError

# Several translations of every English sentence; each German sentence also translates a neighbour.
PAIRS = [(f"This is {n}.", f"Das ist {n + k}.") for n in range(500) for k in (0, 0, 1, 1_000, 2_000, 3_000)]
SIZES: list[Mapping[str, float]] = [{"test": 0.05, "validation": 0.05}, {"test": 100, "validation": 60}, {"test": 7}]


@pytest.mark.parametrize("held_out", SIZES)
def test_nothing_held_out_is_seen_from_either_side(held_out: Mapping[str, float]) -> None:
    shouted = [(source.upper(), f"  {target}!!") for source, target in PAIRS]
    parts, _ = split_pairs([*PAIRS, *shouted], held_out)
    assert all(parts.values())
    names = list(parts)
    for side in (0, 1):
        seen = [{bare(pair[side]) for pair in parts[name]} for name in names]
        for first in range(len(names)):
            for second in range(first):
                assert not seen[first] & seen[second], (side, names[first], names[second])


@pytest.mark.parametrize("held_out", SIZES)
def test_every_pair_is_kept_or_counted(held_out: Mapping[str, float]) -> None:
    parts, dropped = split_pairs([*PAIRS, ("Hi.", ""), (" ", "Hallo."), ("Hi.", "\u200b")], held_out)
    assert sum(map(len, parts.values())) + sum(dropped.values()) == len(PAIRS) + 3
    assert dropped["blank"] == 3
    assert dropped["repeated"] == 500  # k = 0 stands there twice
    assert dropped["with a side that is held out"] > 0


def test_numbers_are_met() -> None:
    parts, _ = split_pairs(PAIRS, {"test": 100, "validation": 60})
    assert (len(parts["test"]), len(parts["validation"])) == (100, 60)


def test_with_shares_a_sentence_keeps_its_split_when_others_come_and_go() -> None:
    held_out = {"test": 0.05, "validation": 0.05}
    parts, fewer = split_pairs(PAIRS, held_out)[0], split_pairs(PAIRS[::7], held_out)[0]
    for name in held_out:
        assert {source for source, _ in fewer[name]} <= {source for source, _ in parts[name]}


def test_the_split_is_the_same_on_every_machine_and_in_any_order() -> None:
    # First 8 bytes of SHA-256 of nothing, by `sha256sum < /dev/null`.
    assert digest("") == 0xE3B0C44298FC1C14
    sizes = {"test": 0.05, "validation": 0.05}
    assert split_pairs(PAIRS, sizes)[0] == split_pairs(PAIRS[::-1], sizes)[0]


def test_what_cannot_be_held_out_is_refused() -> None:
    with pytest.raises(UserError, match=r"test: 3 can be held out of 3, not 4"):
        assign([keys((word,)) for word in "abc"], {"test": 4})
    with pytest.raises(UserError, match="nothing of 3 is left for train"):
        assign([keys((word,)) for word in "abc"], {"test": 3})
    with pytest.raises(UserError, match="nothing of 2 is left for validation"):
        assign([keys(("a",)), keys(("b",))], {"test": 0.9999999, "validation": 0.00000001})
