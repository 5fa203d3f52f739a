"""All recipes on corpora so small that a whole run takes a second."""

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORDS = {"red": "rot", "green": "grün", "blue": "blau", "cat": "Katze", "dog": "Hund", "a": "ein"}
VERSE = "the cat sat on the mat, and the dog lay by the door.\n"


def main_of(recipe: str) -> Callable[[list[str]], None]:
    """`main` of the recipe `translation`, `gpt` or `masked`."""
    spec = importlib.util.spec_from_file_location(f"train_{recipe}", ROOT / "recipes" / recipe / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[list[str]], None] = module.main
    return found


def write_pairs(folder: Path, name: str, n: int, seed: int) -> dict[str, str]:
    """n sentences of six words and their translations; the files' names as a recipe has them."""
    draw = random.Random(seed)
    lines = [draw.choices(list(WORDS), k=draw.randint(2, 6)) for _ in range(n)]
    (folder / f"{name}.en").write_text("".join(" ".join(words) + "\n" for words in lines), "utf-8")
    german = [" ".join(WORDS[word] for word in words) for words in lines]
    (folder / f"{name}.de").write_text("".join(line + "\n" for line in german), "utf-8")
    return {"source": str(folder / f"{name}.en"), "target": str(folder / f"{name}.de")}


def write_recipe(folder: Path, recipe: str) -> Path:
    """The texts and the YAML of a tiny run in `folder`/run."""
    fields = {"translation": translation, "gpt": gpt, "masked": masked}[recipe](folder)
    path = folder / f"{recipe}.yaml"
    common = {"run_dir": str(folder / "run"), "device": "cpu", "precision": "float32"}
    path.write_text(yaml.safe_dump({**common, **fields}), "utf-8")
    return path


def translation(folder: Path) -> dict[str, Any]:
    """A language of six words; 12 updates, 2 validations with BLEU, 3 checkpoints whose last 2 are averaged, a test."""
    return {
        "data": {
            "source_lang": "en",
            "target_lang": "de",
            "train": write_pairs(folder, "train", 300, 1),
            "validation": write_pairs(folder, "val", 20, 2),
            "tests": {"words": write_pairs(folder, "test", 12, 3)},
        },
        "tokenizer": {"vocab_size": 45},
        "model": {"preset": "transformer-tiny", "d_model": 16, "d_ff": 20, "n_heads": 2}
        | {"n_encoder_layers": 1, "n_decoder_layers": 1},
        "schedule": {"name": "inverse_sqrt", "warmup": 3},
        "training": {"batch_tokens": 128, "max_updates": 12, "log_every": 5},
        "validation": {"every": 6, "best_by": "bleu", "bleu_sentences": 8, "samples": 2},
        "checkpoint": {"every": 4, "average_last": 2, "final_weights": "average"},
        "test": {"beam": 2},
    }


def gpt(folder: Path) -> dict[str, Any]:
    """A verse that is repeated, as pieces; 12 updates of two micro-batches by Muon, with a moving average."""
    (folder / "train.txt").write_text(VERSE * 40, "utf-8")
    (folder / "val.txt").write_text(VERSE * 3, "utf-8")
    return {
        "data": {"train": {"path": str(folder / "train.txt")}, "validation": {"path": str(folder / "val.txt")}},
        "tokenizer": {"kind": "sentencepiece", "model_type": "bpe", "vocab_size": 280},
        "model": {"preset": "gpt-modern", "d_model": 32, "d_ff": 64, "n_heads": 2, "n_layers": 2, "max_seq_len": 16},
        "optimizer": {"name": "muon", "lr": 0.01, "weight_decay": 0.1},
        "schedule": {"name": "wsd", "warmup": 2, "decay": 5},
        "training": {"batch_tokens": 64, "update_tokens": 128, "max_updates": 12, "log_every": 5, "ema_decay": 0.5},
        "validation": {"every": 6, "sample_tokens": 7},
        "checkpoint": {"every": 4, "average_last": 1, "final_weights": "last"},
    }


def masked(folder: Path) -> dict[str, Any]:
    """The verse of `gpt`, of which some pieces are hidden from an encoder."""
    fields = gpt(folder)
    sizes = {"preset": "bert-tiny", "d_model": 32, "d_ff": 64, "n_heads": 2, "max_seq_len": 16}
    return {
        **fields,
        "data": {**fields["data"], "masked": 0.15},
        "model": sizes,
        "validation": {"every": 6},
    }
