"""The benchmark of the server: on made-up runs its tables come out, and a soak that went wrong is refused."""

import json
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from .shown import shown

pytest.importorskip("fastapi")
pytest.importorskip("ctranslate2")


@pytest.mark.slow
def test_the_tables_and_the_soak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_module("recipes.benchmarks.serving").main(["--small", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    translates, writes = found["tables"]
    assert "| translates | none: offline, batches of 16 |  |" in shown("serving", found, tmp_path)
    assert list(translates["loads"]) == ["transformer_zoo", "CTranslate2 float32"]
    assert list(writes["loads"]) == ["transformer_zoo"]
    for loads in (*translates["loads"].values(), *writes["loads"].values()):
        assert [load["clients"] for load in loads] == [1, 4]
        assert all(load["answers"] > 0 and 0 < load["p50"] <= load["p95"] for load in loads)
    assert translates["others"] == writes["others"] == 0
    assert found["soak"]["answers"] > 0
    assert found["soak"]["faults"] == []
    assert "offline, batches of 16" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"statuses": {200: 9, 500: 1}}, "500"),
        ({"far": 1}, "more than rounding"),
        ({"others": 2}, "one answer in 500"),
        ({"growth": 1.06}, "grows"),
        ({"answers": 0}, "no answers"),
        ({}, ""),
    ],
)
def test_what_is_wrong_with_a_soak(changes: dict[str, Any], fault: str) -> None:
    clients, benchmark = (
        import_module("recipes.benchmarks.serving_clients"),
        import_module("recipes.benchmarks.serving"),
    )
    given = {"statuses": {200: 999}, "answers": 999, "others": 1, "far": 0, "growth": 1.05, **changes}
    others = [(None, "")] * (given["others"] if given["answers"] else 0)
    soaked = clients.Soaked(Counter(given["statuses"]), answers=given["answers"], others=others)
    faults = benchmark._faults(soaked, given["far"], given["growth"], is_short=False)
    assert [fault in one for one in faults] == [True] * bool(fault)


def test_growth_is_from_a_fifth_to_the_end() -> None:
    clients = import_module("recipes.benchmarks.serving_clients")
    soaked = clients.Soaked(resident=[(0.0, 50), (1.0, 60), (2.0, 100), (9.0, 200), (10.0, 103)])
    assert soaked.growth(2.0) == pytest.approx(1.03)
