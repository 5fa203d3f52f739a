"""The benchmark of the zoo: its peers write the same tokens, and its tables come out."""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from .shown import shown

pytest.importorskip("transformers")
SMALL = f"--small --rounds 1 --new-tokens 3 --input-tokens 5 --device cpu --threads {torch.get_num_threads()}"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return import_module("recipes.benchmarks.zoo")


def test_the_tables(benchmark: ModuleType, tmp_path: Path) -> None:
    """Before the race both sides must have written the same, or it is refused."""
    path = tmp_path / "speed.json"
    benchmark.main([*f"{SMALL} --families gpt2 t5 --batches 2 --json {path}".split()])
    found = json.loads(path.read_text())
    tables = found["tables"]
    assert [table["title"] for table in tables] == ["gpt2", "t5"]
    names = [[row["name"] for row in table["rows"]] for table in tables]
    both = benchmark.OURS, benchmark.HUGGING_FACE
    assert names[0] == names[1] == [f"{name}, batch 2, {how}" for how in ("greedy", "beam 4") for name in both]
    assert all(row["speed"] > 0 for table in tables for row in table["rows"])
    heads = ["family", "model", "greedy, 2 texts at once", "beam 4, 2 texts at once"]
    assert f"| {' | '.join(heads)} |\n" in shown("zoo", found, tmp_path)


def test_another_answer_is_no_race(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(model: object, ids: torch.Tensor, *how: object, **options: object) -> list[list[int]]:
        return [[0]] * len(ids)

    monkeypatch.setattr(benchmark, "generate", other)
    with pytest.raises(benchmark.UserError, match="gpt2, batch 2: only 0 texts are the same"):
        benchmark.main([*f"{SMALL} --families gpt2 --batches 2".split()])
