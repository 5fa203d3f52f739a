"""`export` in a recipe: the finished run is there for another program, or it is refused before anything is trained."""

from pathlib import Path
from typing import Any

import ctranslate2
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

import transformer_zoo as tz
from tests import hub
from transformer_zoo.cli import main
from transformer_zoo.runs.load import TextRun

SMALL = {"d_model": 24, "n_heads": 3, "d_ff": 96, "n_layers": 1}


def gpt(folder: Path, **fields: Any) -> dict[str, Any]:
    (folder / "text.txt").write_text("the cat sat on the mat, and the dog lay by the door.\n" * 40)
    text = {"path": str(folder / "text.txt")}
    return {
        "run_dir": str(folder / "run"), "device": "cpu", "data": {"train": text, "validation": text, "length": 16},
        "tokenizer": {"kind": "characters"}, "model": {"preset": "gpt2", **SMALL, **fields},
        "training": {"batch_tokens": 64, "max_updates": 2}, "validation": {"samples": 0},
    }  # fmt: skip


def translation(folder: Path, **fields: Any) -> dict[str, Any]:
    return {
        "run_dir": str(folder / "run"), "device": "cpu",
        "data": {"source_lang": "en", "target_lang": "de", "train": hub.write_pairs(folder, "train", 99, 0),
                 "validation": hub.write_pairs(folder, "val", 9, 1)},
        "tokenizer": {"vocab_size": 61}, "model": {"preset": "transformer-tiny", **SMALL, **fields},
        "training": {"batch_tokens": 256, "max_updates": 2}, "validation": {"bleu_sentences": 0, "samples": 0},
    }  # fmt: skip


def train(folder: Path, fields: dict[str, Any], *words: str) -> int:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(fields))
    try:
        return main(["train", str(folder / "recipe.yaml"), *words])
    except SystemExit as ended:
        return int(ended.code or 0)


def test_a_finished_run_is_there_for_transformers(tmp_path: Path) -> None:
    assert train(tmp_path, gpt(tmp_path), "--export", "huggingface") == 0
    run, place = tz.load_run(tmp_path / "run"), tmp_path / "run" / "export"
    assert isinstance(run, TextRun)
    ids = AutoTokenizer.from_pretrained(place)("the dog", return_tensors="pt")["input_ids"]
    assert ids.tolist() == [run.tokenizer.encode("the dog")]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(place)(ids).logits
        torch.testing.assert_close(logits, run.model(ids), atol=1e-4, rtol=0)


def test_a_run_that_is_finished_is_written_when_it_is_asked_for(tmp_path: Path) -> None:
    fields = translation(tmp_path, norm_position="pre")
    assert train(tmp_path, fields) == 0
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    for _ in range(2):
        assert train(tmp_path, {**fields, "export": "ctranslate2"}) == 0
        assert ctranslate2.Translator(str(tmp_path / "run" / "export")).translate_batch([["▁ein", "</s>"]])
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
    assert not list((tmp_path / "run").glob("*.part"))


@pytest.mark.parametrize(
    ("make", "model", "export", "named"),
    [
        (
            gpt,
            {"ngrams": {"n": 3}},
            "huggingface",
            "nearest is gpt2, which has no counterpart of ngrams 'ngram' (it has None)",
        ),
        (gpt, {"sliding_window": 4}, "huggingface", "attention.window 4 (it has None)"),
        (gpt, {"sliding_window": 4}, "ctranslate2", "ctranslate2 has no counterpart of attention.window '4 beside"),
        (gpt, {"preset": "qwen2-0.5b", "n_kv_heads": None}, "huggingface", "transformers takes its own tokenizer"),
        (translation, {"activation": "mish"}, "ctranslate2", "no counterpart of ffn.activation 'mish'"),
        (translation, {"encoder": {"norm_position": "pre"}}, "huggingface", "norm_position 'pre' (it has 'post')"),
    ],
)
def test_what_has_no_counterpart_is_refused_before_training(
    make: Any, model: dict[str, Any], export: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, make(tmp_path, **model), "--export", export) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: export: ")
    assert named in line
    assert not (tmp_path / "run").exists()


def test_nor_is_a_translation_by_bytes_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = {**translation(tmp_path), "tokenizer": {"kind": "bytes"}}
    assert train(tmp_path, fields, "--export", "huggingface") == 1
    assert "tokenizer of kind bytes: take sentencepiece" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert train(tmp_path, fields, "--export", "ctranslate2") == 0
    assert (tmp_path / "run" / "export" / "tokenizer" / "tokenizer_kind.json").is_file()
