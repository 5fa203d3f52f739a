"""The sizes that are chosen for a text: what they grow with, and that every recipe is one."""

import math
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from transformer_zoo.commandline import parse_recipe
from transformer_zoo.training import speed
from transformer_zoo.training.choosing import MOST_PASSES, Amount, amount_of, language, size_for, translation
from transformer_zoo.training.tasks.kinds import kind_of_recipe

BYTES = (2_000, 100_000, 1_000_000, 30_000_000, 10**10)
OPERATIONS = (1e10, 1e12, 3e13, 1e16, 1e20)


def made(kind: str, n_bytes: int, operations: float, most: int = 4096) -> dict[str, Any]:
    """The fields of the recipe, as YAML has them."""
    amount = Amount(n_bytes, 80, n_bytes // 50)
    if kind == "pairs":
        files = {"source": "a", "target": "b"}
        data: dict[str, Any] = {"source_lang": "en", "target_lang": "de", "train": files, "validation": files}
        sections = translation(data, amount, operations, 5.0, most)
    else:
        sections = language(
            {"train": {"path": __file__}, "validation": {"path": __file__}}, amount, operations, 5.0, most
        )
    return {"run_dir": "x", **yaml.safe_load("\n".join(section.yaml for section in sections))}


@pytest.mark.parametrize(("kind", "n_bytes", "operations"), list(product(("pairs", "text"), BYTES, OPERATIONS)))
def test_every_recipe_is_one(kind: str, n_bytes: int, operations: float, tmp_path: Path) -> None:
    fields = made(kind, n_bytes, operations)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(fields), "utf-8")
    found = kind_of_recipe(fields)
    assert found.recipes == ("recipes/translation" if kind == "pairs" else "recipes/gpt")
    recipe = parse_recipe(found.recipe, [str(path)])
    recipe.validate()
    config = found.model_config(recipe, None, None)
    assert config.d_model == fields["model"]["d_model"]
    # A small text is not read for ever.
    assert fields["training"].get("max_epochs", MOST_PASSES) == MOST_PASSES
    assert ("max_epochs" in fields["training"]) == (fields["model"]["dropout"] == 0.3 and n_bytes < operations / 1e5)


@pytest.mark.parametrize("kind", ["pairs", "text"])
def test_more_time_and_more_text_never_make_a_model_smaller(kind: str) -> None:
    def width(n_bytes: int, operations: float) -> int:
        found: int = made(kind, n_bytes, operations)["model"]["d_model"]
        return found

    for n_bytes in BYTES:
        assert all(a <= b for a, b in pairwise(width(n_bytes, operations) for operations in OPERATIONS))
    for operations in OPERATIONS:
        assert all(a <= b for a, b in pairwise(width(n_bytes, operations) for n_bytes in BYTES))
    assert width(10**10, 1e20) == 1536
    assert width(2_000, 1e20) == 64


def test_the_rules_give_what_was_best_by_hand() -> None:
    """Multi30k in a quarter of an hour (3 + 3 layers of 160), the speedrun (3 of 128), Python's source (4 of 192), and
    pieces for 20,000 pairs of Tatoeba."""
    multi30k = size_for(1.0e14, 460_000, each=28, vocab_size=5000)
    assert (multi30k.width, multi30k.depth, multi30k.dropout, multi30k.update_tokens) == (160, 3, 0.2, 2048)
    speedrun = size_for(8.0e12, 1_000_000, each=12, vocab_size=65)
    assert (speedrun.width, speedrun.depth) == (128, 3)
    python = size_for(4.0e13, 5_000_000, each=12, vocab_size=4096)
    assert (python.width, python.depth, python.dropout) == (192, 4, 0.0)
    assert made("text", 1_000_000, 1e13)["tokenizer"] == {"kind": "bytes"}
    assert made("pairs", 1_400_000, 1e13)["tokenizer"]["vocab_size"] == pytest.approx(5000, rel=0.1)


def test_text_is_counted() -> None:
    assert amount_of(["ab cd", "ab ö 12"]) == Amount(13, 8, 3)


def test_a_machine_has_a_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    monkeypatch.setattr(speed, "TOKENS", 256)
    found = speed.operations_a_second(torch.device("cpu"))
    assert 1e8 < found < 1e15
    assert math.isfinite(found)
