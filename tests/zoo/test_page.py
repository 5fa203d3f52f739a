"""docs/zoo.md says what is true now."""

import json
from typing import Any

import pytest

from tests.zoo.page import CASES, DIFFERENCES, PAGE, largest, render
from transformer_zoo.zoo.families import FAMILIES

HELD: dict[str, Any] = json.loads(DIFFERENCES.read_text("utf-8"))


def test_every_family_was_measured() -> None:
    assert HELD["differences"].keys() == FAMILIES.keys(), "python -m tests.zoo.page measures those that are new"
    assert max(HELD["differences"].values()) < 1e-4


def test_the_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == render(HELD), "python -m tests.zoo.page writes it"


@pytest.mark.slow
def test_the_differences_are_what_is_measured() -> None:
    found = largest(iter(CASES))
    assert found.keys() == HELD["differences"].keys()
    assert max(found.values()) < 1e-4
