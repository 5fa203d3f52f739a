"""A number that says how many modules there are is bounded, or a stranger's file has a machine make them for hours."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from transformer_zoo.config import DecoderConfig, StackSpec
from transformer_zoo.config.mixture import MixtureSpec
from transformer_zoo.config.spec import Spec, kinds_of
from transformer_zoo.errors import UserError
from transformer_zoo.zoo import build

HUGE = 10**9


def numbers() -> Iterator[tuple[str, type[Spec], str]]:
    """Where a spec of every kind stands in a stack, the spec, and each of its fields that is a whole number."""
    stack = {field.name: field.type for field in dataclasses.fields(StackSpec)}
    layer = {field.name: field.type for field in dataclasses.fields(type(StackSpec().layers[0]))}
    for place, hint in {**{f"layer.{name}": kind for name, kind in layer.items()}, **stack}.items():
        for spec in kinds_of(hint).values():
            for field in dataclasses.fields(spec):
                if field.type in (int, int | None):
                    yield place, spec, field.name


def n_modules(place: str, spec: type[Spec], field: str, value: int) -> int:
    small: dict[str, Any] = {"vocab_size": 50, "d_model": 16, "n_heads": 4, "n_layers": 1}
    given = {"n_experts": 8} if "n_experts" in {f.name for f in dataclasses.fields(spec)} else {}
    return len([*build(DecoderConfig.of(**small).changed(**{place: spec(**{**given, field: value})})).modules()])


@pytest.mark.parametrize("found", [*numbers()], ids=lambda found: f"{found[0]} {found[1].__name__}.{found[2]}")
def test_what_counts_modules_is_bounded(found: tuple[str, type[Spec], str]) -> None:
    place, spec, field = found
    try:
        counts = n_modules(place, spec, field, 4) != n_modules(place, spec, field, 2)
    except (UserError, ValueError):
        counts = False  # such as a rotation that does not fit its heads
    if counts:
        with pytest.raises(UserError, match=f"{field} is {HUGE}, expected at least 1 and at most 10,000"):
            spec(**{field: HUGE})


def test_the_search_finds_what_counts() -> None:
    found = {(spec.__name__, field) for _, spec, field in numbers()}
    assert {("AttentionSpec", "n_heads"), ("MixtureSpec", "n_experts"), ("FeedForwardSpec", "d_ff")} <= found
    assert n_modules("layer.ffn", MixtureSpec, "n_experts", 4) > n_modules("layer.ffn", MixtureSpec, "n_experts", 2)
    with pytest.raises(UserError, match="n_layers is"):
        StackSpec(n_layers=HUGE)
