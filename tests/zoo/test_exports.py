"""The table of `python -m tests.zoo.exports`: what must have no reason in it has none."""

from pathlib import Path

import pytest

import transformer_zoo as tz
from tests.zoo.exports import RECIPES, preset_row, recipe_row

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
OURS = [name for name in tz.list_models() if name.startswith(("transformer-", "gpt", "opus"))]


@pytest.mark.parametrize(
    "name", ["transformer-tiny", "opus-mt", "gpt-char", "gpt-modern", "gpt1", "gpt2-untied", "gpt-neo-125m"]
)
def test_the_presets_that_recipes_start_from_go_everywhere(name: str, tmp_path: Path) -> None:
    assert not preset_row(name, tmp_path).reasons


@pytest.mark.parametrize(
    "name", ["numbers", "python_source", "python_source_masked", "multi30k_marian", "finetune_gpt2"]
)
def test_what_demos_train_goes_everywhere(name: str, tmp_path: Path) -> None:
    assert not recipe_row(name, tmp_path).reasons


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_presets_of_ours_go_everywhere(name: str, tmp_path: Path) -> None:
    assert not preset_row(name, tmp_path).reasons


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_go_everywhere(name: str, tmp_path: Path) -> None:
    assert not recipe_row(name, tmp_path).reasons


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in tz.list_models() if name not in OURS])
def test_other_presets_come_back_from_transformers(name: str, tmp_path: Path) -> None:
    row = preset_row(name, tmp_path)
    assert (row.transformers, row.back) == ("equal", "equal")
    assert row.ctranslate2 == "equal" or row.ctranslate2.startswith("ctranslate2 has ")
