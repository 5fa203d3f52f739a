"""A small workplace in which everything is right: texts, recipes, runs of both kinds, folders of Hugging Face's."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "small", "dogs", "near", "an", "old", "house"]
TRANSLATION = "recipes/translation/train.py"
GPT = "recipes/gpt/train.py"

MT_YAML = """\
run_dir: runs/mt
seed: 3
precision: float32
data:
  source_lang: en
  target_lang: de
  train: {source: texts/train.en, target: texts/train.de}
  validation: {source: texts/val.en, target: texts/val.de}
  tests:
    test: {source: texts/val.en, target: texts/val.de}
tokenizer: {vocab_size: 60}
model: {preset: transformer-small, d_model: 16, n_heads: 2, d_ff: 16, n_encoder_layers: 1, n_decoder_layers: 1}
schedule: {warmup: 1}
training: {batch_tokens: 256, max_updates: 2}
validation: {every: 1, bleu_sentences: 2, samples: 1}
checkpoint: {every: 1, average_last: 2}
test: {beam: 2}
"""

GPT_YAML = """\
run_dir: runs/gpt
precision: float32
data:
  train: {path: texts/corpus.txt}
  validation: {path: texts/val.en}
  length: 16
tokenizer: {kind: characters}
model: {preset: gpt2, d_model: 16, n_heads: 2, d_ff: 64, n_layers: 1}
schedule: {warmup: 1}
training: {batch_tokens: 64, max_updates: 2}
validation: {every: 1, sample_tokens: 4}
checkpoint: {every: 1, average_last: 2}
"""


def sentences(n: int, start: int) -> list[str]:
    """Lines of a few words, all of them different."""
    return [" ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 6)) + f" {i}" for i in range(start, start + n)]


def make_workplace(place: Path, run: Callable[..., int]) -> int:
    """Writes the texts and recipes, trains both and exports the runs; returns an exit status."""
    texts = place / "texts"
    texts.mkdir(parents=True)
    for name, n, start in (("train", 60, 0), ("val", 6, 100)):
        lines = sentences(n, start)
        write_lines(texts / f"{name}.en", lines)
        write_lines(texts / f"{name}.de", [line.upper() for line in lines])
        write_lines(texts / f"{name}.tsv", [f"{line}\t{line.upper()}" for line in lines])
        rows = [json.dumps({"source": line, "target": line.upper(), "text": line}) for line in lines]
        write_lines(texts / f"{name}.jsonl", rows)
    write_lines(texts / "corpus.txt", sentences(80, 0) + sentences(6, 100))
    for name in ("train.en", "train.tsv", "train.jsonl", "corpus.txt"):
        (texts / f"{name}.gz").write_bytes(gzip.compress((texts / name).read_bytes()))
    (place / "mt.yaml").write_text(MT_YAML)
    (place / "gpt.yaml").write_text(GPT_YAML)
    os.chdir(place)
    status = max(
        run(TRANSLATION, "mt.yaml"),
        run(TRANSLATION, "mt.yaml", "--run_dir", "runs/marian", "--model.preset", "opus-mt"),
        run(GPT, "gpt.yaml"),
        run("transformer-zoo", "export", "runs/marian", "hf/marian"),
        run("transformer-zoo", "export", "runs/gpt", "hf/gpt2"),
    )
    pickled(place / "hf" / "gpt2", place / "hf" / "pickled")
    in_parts(place / "hf" / "gpt2", place / "hf" / "parts")
    (place / "new").mkdir()
    os.chmod(place / "new", 0o777)
    return status


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def beside_weights(theirs: Path, folder: Path) -> None:
    """A folder of the same model without its weights."""
    folder.mkdir()
    for path in theirs.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())


def pickled(theirs: Path, folder: Path) -> None:
    """The same model with weights of torch.save."""
    import torch
    from safetensors.torch import load_file

    beside_weights(theirs, folder)
    torch.save(load_file(theirs / "model.safetensors"), folder / "pytorch_model.bin")


def in_parts(theirs: Path, folder: Path) -> None:
    """The same model with its weights in two files and an index."""
    from safetensors.torch import load_file, save_file

    beside_weights(theirs, folder)
    weights = load_file(theirs / "model.safetensors")
    places = {}
    for number, names in enumerate((sorted(weights)[::2], sorted(weights)[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in names}, folder / file)
        places |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
