"""Part 1 of recipes/benchmarks/gpu.py on a GPU: each of its checks of parity stays within its bound."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def parity(root: Path) -> Iterator[Any]:
    """The checks, found as they are when the script is run."""
    sys.path.insert(0, str(root))
    yield import_module("recipes.benchmarks.gpu_parity")
    sys.path.remove(str(root))


@pytest.fixture
def setting(parity: Any, tmp_path: Path) -> Any:
    return parity.Setting(torch.device("cuda", 0), False, tmp_path)


def check(figures: Iterator[Any]) -> None:
    asked = [figure for figure in figures if figure.aim is not None]
    assert asked
    assert [figure for figure in asked if figure.reached != "yes"] == []


@pytest.mark.parametrize("name", ["GPT-2", "Llama", "Transformer", "T5"])
def test_a_family_computes_what_it_does_on_the_cpu(parity: Any, setting: Any, name: str) -> None:
    check(parity.family(setting, name))


def test_a_run_goes_on_bit_for_bit(parity: Any, setting: Any) -> None:
    check(parity.resumed(setting))


def test_batches_come_in_order_out_of_pinned_memory(parity: Any, setting: Any) -> None:
    check(parity.prefetch(setting))
