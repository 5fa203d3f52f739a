"""The rows of the GPU script that take nanoGPT's two files, with stand-ins for these."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture
def training(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Found as it is when the script is run."""
    monkeypatch.syspath_prepend(str(root))
    return import_module("recipes.benchmarks.gpu_training")


@pytest.fixture
def runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Found as it is when the script is run."""
    monkeypatch.syspath_prepend(str(root))
    return import_module("recipes.benchmarks.gpu_runs")


NANOGPT = """
from dataclasses import dataclass
import torch
from torch import nn

@dataclass
class GPTConfig:
    block_size: int; vocab_size: int; n_layer: int; n_head: int; n_embd: int; dropout: float; bias: bool

class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)

    def forward(self, ids, targets):
        logits = self.embedding(ids) @ self.embedding.weight.T
        return logits, nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        return torch.optim.AdamW(self.parameters(), lr=learning_rate, betas=betas, weight_decay=weight_decay)
"""


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # Dynamo's own
def test_nanogpt_runs_in_alternation_where_its_file_is_there(
    training: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    setting = training.Setting(torch.device("cpu"), True, tmp_path)
    case = training.Case("gpt2", 2)
    with pytest.raises(training.NotHere, match=r"nanogpt/model\.py does not lie beside"):
        list(training.beside_nanogpt(setting, case))
    (tmp_path / "nanogpt").mkdir()
    (tmp_path / "nanogpt" / "model.py").write_text(NANOGPT)
    figures = {figure.name: figure.value for figure in training.beside_nanogpt(setting, case)}
    ours, theirs = (figures[f"{name}, in alternation"] for name in ("transformer_zoo", "nanoGPT"))
    assert figures["ours / nanoGPT"] == pytest.approx(ours / theirs)


@pytest.mark.parametrize(
    ("printed", "speed"),
    [
        ("iter 0: loss 9, time 5000.0ms, mfu -100.00%\\niter 1: loss 8, time 4.00ms, mfu -100.00%", 16_000.0),
        ("nothing that it knows", None),
    ],
)
def test_nanogpts_own_program_is_run_and_read(runs: Any, tmp_path: Path, printed: str, speed: float | None) -> None:
    setting = runs.Setting(torch.device("cpu"), True, tmp_path)
    (tmp_path / "nanogpt").mkdir()
    (tmp_path / "nanogpt" / "model.py").touch()
    with pytest.raises(runs.NotHere, match=r"nanogpt/train\.py does not lie beside"):
        list(runs.nanogpt(setting, 32))
    (tmp_path / "nanogpt" / "train.py").write_text(
        "exec(open('configurator.py').read())\n"
        "import os\n"
        "assert (batch_size, block_size, device, compile) == (2, 32, 'cpu', False)\n"
        "assert os.path.getsize(f'data/{dataset}/train.bin') == os.path.getsize(f'data/{dataset}/val.bin') == 10_000\n"
        f"print('{printed}')\n"
    )
    if speed is None:
        with pytest.raises(RuntimeError, match="no line of an iteration"):
            list(runs.nanogpt(setting, 32))
    else:
        [figure] = runs.nanogpt(setting, 32)
        assert (figure.value, figure.unit) == (speed, "tokens/s")
