"""Reading takes the memory of the model and little more, in time that building fresh weights would not."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from transformer_zoo.config import DecoderConfig
from transformer_zoo.zoo import build_empty
from transformer_zoo.zoo.huggingface import to_huggingface

READ = """
import sys, torch
from transformer_zoo.zoo.huggingface import from_huggingface

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

torch.set_num_threads(1)
before = peak()
model = from_huggingface(sys.argv[1])
size = sum(weight.nbytes for weight in model.parameters())
print((peak() - before) * 1024 / size)
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model of 130 MB in several kinds of files."""
    root = tmp_path_factory.mktemp("large")
    config = DecoderConfig(vocab_size=16001, d_model=512, n_heads=8, d_ff=2048, n_layers=6, tie_embeddings=False)
    model = build_empty(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(0.5)
    to_huggingface(model, root / "safetensors")
    held = load_file(root / "safetensors" / "model.safetensors")
    for kind in ("half", "pickled", "old"):
        (root / kind).mkdir()
        (root / kind / "config.json").write_bytes((root / "safetensors" / "config.json").read_bytes())
    save_file({name: tensor.half() for name, tensor in held.items()}, root / "half" / "model.safetensors")
    torch.save(held, root / "pickled" / "pytorch_model.bin")
    torch.save(held, root / "old" / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    return root


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
@pytest.mark.parametrize("kind", ["safetensors", "half", "pickled", "old"])
def test_the_peak_is_at_most_a_fifth_above_the_model(folders: Path, kind: str, root: Path) -> None:
    output = subprocess.check_output([sys.executable, "-c", READ, str(folders / kind)], cwd=root, text=True)
    assert 0.9 < float(output) < 1.2
