"""Reading takes the memory of the model and little more, in time that building fresh weights would not."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests import gguf_files
from transformer_zoo.config import DecoderConfig
from transformer_zoo.zoo import build_empty, get_config
from transformer_zoo.zoo.huggingface import to_huggingface

# Each folder and dtype in a process of its own, which does not have to import everything again.
READ = """
import os, sys, torch
from transformer_zoo.zoo.huggingface import from_huggingface

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

torch.set_num_threads(1)
for folder, dtype in zip(sys.argv[2::2], sys.argv[3::2]):
    if os.fork():
        os.wait()
        continue
    from_huggingface(sys.argv[1])  # what it imports and the code that runs are no matter of the model
    before = peak()
    model = from_huggingface(folder, dtype=getattr(torch, dtype))
    size = sum(weight.nbytes for weight in model.parameters())
    print((peak() - before) * 1024 / size, flush=True)
    os._exit(0)
"""

save_old = partial(torch.save, _use_new_zipfile_serialization=False)
KINDS = ["safetensors", "half", "pickled", "old", "pickled-parts", "old-parts", "translation", "quantised.gguf"]
# A file from before torch 1.6 can only be read as a whole, which is twice the model in half the precision.
CASES = [(kind, dtype) for kind in KINDS for dtype in ("float32", "bfloat16") if (kind, dtype) != ("old", "bfloat16")]


def parts(held: dict[str, Tensor], folder: Path, save: Callable[[dict[str, Tensor], Path], object]) -> None:
    """Eight files and an index."""
    names, index = sorted(held), {}
    for i in range(8):
        of = names[len(names) * i // 8 : len(names) * (i + 1) // 8]
        save({name: held[name] for name in of}, folder / f"pytorch_model-{i}.bin")
        index |= dict.fromkeys(of, f"pytorch_model-{i}.bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory, root: Path) -> dict[tuple[str, str], float]:
    """Peak memory over the size of the model: one of 140 MB in several kinds of files, and one that translates."""
    folders = tmp_path_factory.mktemp("large")
    text = DecoderConfig.of(vocab_size=16001, d_model=512, n_heads=8, d_ff=2048, n_layers=6, tie_embeddings=False)
    bart = get_config(
        "bart-base", vocab_size=16001, d_model=512, n_heads=8, d_ff=2048, n_encoder_layers=3, n_decoder_layers=3
    )
    tiny = DecoderConfig.of(vocab_size=11, d_model=8, n_heads=8, d_ff=8, n_layers=1, tie_embeddings=False)
    for config, kind in ((text, "safetensors"), (bart, "translation"), (tiny, "tiny")):
        model = build_empty(config, dtype=torch.float32)
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(0.5)
        to_huggingface(model, folders / kind)
    held = load_file(folders / "safetensors" / "model.safetensors")
    theirs = AutoModelForCausalLM.from_pretrained(folders / "safetensors")
    gguf_files.write(folders / "quantised.gguf", theirs, "Q8_0")
    for kind in KINDS[1:-2]:
        (folders / kind).mkdir()
        (folders / kind / "config.json").write_bytes((folders / "safetensors" / "config.json").read_bytes())
    save_file({name: tensor.half() for name, tensor in held.items()}, folders / "half" / "model.safetensors")
    torch.save(held, folders / "pickled" / "pytorch_model.bin")
    save_old(held, folders / "old" / "pytorch_model.bin")
    parts(held, folders / "pickled-parts", torch.save)
    parts(held, folders / "old-parts", save_old)
    arguments = [word for kind, dtype in CASES for word in (str(folders / kind), dtype)]
    command = [sys.executable, "-c", READ, str(folders / "tiny"), *arguments]
    output = subprocess.check_output(command, cwd=root, text=True)
    return dict(zip(CASES, map(float, output.split()), strict=True))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_peak_is_at_most_a_fifth_above_the_model(
    peaks: dict[tuple[str, str], float], case: tuple[str, str]
) -> None:
    assert 0.9 < peaks[case] < 1.2
