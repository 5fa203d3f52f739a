"""What a small training in bfloat16 on a CPU keeps in memory, whatever the lengths of its sentences."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

MEASURE = """
import re, runpy, sys
runpy.run_path(sys.argv[1], run_name="recipe")["main"](sys.argv[2:])
status = open("/proc/self/status").read()
print("resident", *(re.search(rf"{name}:\\s+(\\d+) kB", status)[1] for name in ("VmRSS", "VmHWM")))
"""


def pairs(path: Path, n: int, seed: int) -> dict[str, str]:
    """A language of twelve letters, sentences of many lengths."""
    draw = random.Random(seed)
    lines = ("".join(draw.choices("abcdefghijkl", k=draw.randint(2, 45))) for _ in range(n))
    path.write_text("".join(f"{line}\t{line[::-1][: draw.randint(2, 45)]}\n" for line in lines), "utf-8")
    return {"tsv": str(path)}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own account of memory")
def test_a_model_of_28_thousand_parameters_in_bfloat16_trains_in_half_a_gigabyte(tmp_path: Path) -> None:
    fields = {
        "run_dir": str(tmp_path / "run"),
        "device": "cpu",
        "precision": "bfloat16",
        "data": {
            "source_lang": "en",
            "target_lang": "de",
            "train": pairs(tmp_path / "train.tsv", 5000, 1),
            "validation": pairs(tmp_path / "val.tsv", 100, 2),
            "tests": {"letters": pairs(tmp_path / "test.tsv", 100, 3)},
        },
        "tokenizer": {"vocab_size": 17, "model_type": "bpe"},
        "model": {"preset": "transformer-tiny", "d_model": 32, "d_ff": 128, "n_heads": 2}
        | {"n_encoder_layers": 1, "n_decoder_layers": 1},
        "training": {"batch_tokens": 512, "max_updates": 400, "log_every": 100},
        "validation": {"every": 200, "bleu_sentences": 100, "samples": 0},
        "test": {"beam": 4},
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(fields), "utf-8")
    script = ROOT / "recipes" / "translation" / "train.py"
    command = [sys.executable, "-c", MEASURE, str(script), str(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found = re.search(r"resident (\d+) (\d+)", done.stdout)
    assert found is not None
    described = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))
    assert "letters" in str(described)
    assert max(int(kilobytes) for kilobytes in found.groups()) < 500_000
