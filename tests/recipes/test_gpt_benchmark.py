"""The GPT benchmark's peers compute what the model computes, and its tables come out."""

import json
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from transformer_zoo import UserError, get_config

from .shown import shown

pytest.importorskip("transformers")
OPTIONS: dict[str, Any] = {"device": torch.device("cpu"), "seed": 3, "nanogpt": None, "compile": False}


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return import_module("recipes.benchmarks.gpt")


@pytest.mark.parametrize("preset", ["gpt-nano", "gpt2"])
@torch.no_grad()
def test_hugging_face_has_the_same_weights(benchmark: ModuleType, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small: dict[str, Any] = {"d_model": 24, "n_heads": 2, "d_ff": 37, "n_layers": 2, "eos_id": None}
    small |= {"vocab_size": 61, "max_seq_len": 16}
    monkeypatch.setattr(benchmark, "get_config", lambda name, **more: get_config(name, **small | more))
    model = benchmark.build(Namespace(**OPTIONS, preset=preset)).eval()
    for weight in model.parameters():
        weight += 0.1 * torch.randn_like(weight)
    ids = torch.randint(61, (3, 13))
    assert_close(benchmark.to_hugging_face(model).eval()(ids).logits, model(ids), rtol=1e-4, atol=1e-4)


def test_the_tables(benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "speed.json"
    small = "--preset gpt-nano --batch-size 1 --length 8 --rounds 1 --steps 1 --new-tokens 2 --prompt-tokens 3"
    threads = f"--threads {torch.get_num_threads()} --device cpu --precision float32 --generation-batches 2"
    benchmark.main([*f"{small} {threads} --json {path}".split()])
    found = json.loads(path.read_text())
    tables = found["tables"]
    assert "| transformer_zoo | float32 |" in shown("gpt-training", {**found, "tables": tables[:1]}, tmp_path)
    assert "| 2 | transformer_zoo | float32 |" in shown("gpt-writing", {**found, "tables": tables[1:]}, tmp_path)
    assert [table["title"] for table in tables] == ["Training", "Generation, batch 2"]
    for table in tables:
        assert [row["name"] for row in table["rows"]] == [benchmark.OURS, benchmark.HUGGING_FACE]
        assert all(row["speed"] > 0 for row in table["rows"])
    assert "| transformer_zoo | float32 |" in capsys.readouterr().out


def test_what_is_refused(benchmark: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="GPT-2's structure only"):
        benchmark.main(["--preset", "gpt-modern", "--tables", "training"])
    options = ["--preset", "gpt-nano", "--tables", "training", "--nanogpt", str(tmp_path)]
    with pytest.raises(UserError, match="give a clone of"):
        benchmark.main(options)


@pytest.mark.slow
@pytest.mark.parametrize("shipped", [torch.float32, torch.bfloat16])
def test_the_recipe_table_takes_each_program_at_its_word(
    benchmark: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shipped: torch.dtype,
) -> None:
    monkeypatch.setattr(benchmark, "choose_precision", lambda *_: shipped)
    peer, text = tmp_path / "peer", tmp_path / "data" / "tinyshakespeare"
    for folder in (peer / "data" / "shakespeare_char", text):
        folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"prepare\.py was run"):
        benchmark.main(["--tables", "recipe", "--nanogpt", str(peer)])
    (peer / "data" / "shakespeare_char" / "train.bin").touch()
    printed = ["iter 0: loss 4.2, time 900.00ms", "iter 1: loss 4.1, time 10.00ms", "iter 2: loss 4.0, time 20.00ms"]
    (peer / "train.py").write_text(f"print({chr(10).join(printed)!r})")
    for name in ("train", "val"):
        (text / f"{name}.txt").write_text("To be, or not to be, that is the question.\n" * 60)
    monkeypatch.chdir(tmp_path)
    threads = str(torch.get_num_threads())
    options = ["--rounds", "1", "--updates", "2", "--json", "speed.json", "--threads", threads]
    benchmark.main(["--tables", "recipe", "--nanogpt", str(peer), *options])
    ours, *in_float32, theirs = json.loads(Path("speed.json").read_text())["tables"][0]["rows"]
    assert [row["precision"] for row in in_float32] == (["float32"] if shipped == torch.bfloat16 else [])
    assert theirs["speed"] == pytest.approx(2 * 12 * 64 / 0.030)
    assert ours["ratio"] == 1
    assert theirs["ratio"] == pytest.approx(ours["speed"] / theirs["speed"])
    assert "nanoGPT's train.py" in capsys.readouterr().out
