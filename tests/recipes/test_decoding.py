"""Validation, tests, `evaluate` and `translate` cut, split, limit and warn alike, and write text alone."""

import json
import random
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from transformer_zoo.cli import main
from transformer_zoo.runs.load import load_run

from .test_translation import load_script

pytestmark = pytest.mark.filterwarnings("always:.*length limit", "always:.*much longer")
Pairs = Sequence[tuple[str, str]]


def run_recipe(folder: Path, texts: dict[str, Pairs], **fields: Any) -> Path:
    """Trains on texts of train, val and test, and gives the run's folder."""
    for name, pairs in texts.items():
        (folder / f"{name}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
    files = {name: {"tsv": str(folder / f"{name}.tsv")} for name in texts}
    recipe = {
        "run_dir": str(folder / "run"), "device": "cpu", "precision": "float32",
        "data": {"source_lang": "en", "target_lang": "de", "train": files["train"], "validation": files["val"],
                 "tests": {"test": files["test"]}},
        "model": {"preset": "transformer-tiny", "d_model": 32, "d_ff": 64, "n_heads": 2, "dropout": 0.0,
                  "n_encoder_layers": 1, "n_decoder_layers": 1},
        "optimizer": {"lr": 0.01}, "schedule": {"name": "constant", "warmup": 20},
        "checkpoint": {"final_weights": "last"},
    }  # fmt: skip
    for section, values in fields.items():
        recipe[section] = {**recipe.get(section, {}), **values}  # type: ignore[dict-item]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    load_script().main([str(folder / "recipe.yaml")])
    return folder / "run"


def count(sentence: int) -> tuple[str, str]:
    draw = random.Random(sentence)
    n, what = (
        draw.choice(["two", "three", "four", "five", "six"]),
        draw.choice(["cats", "keys", "cups", "books", "trees"]),
    )
    return f"I see {n} {what}.", f"{n} ({what}) sehe ich."


def test_four_ways_to_one_translation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = [count(i) for i in range(100)]
    some = " ".join(count(i)[0] for i in range(9))
    lines = [
        "I see two trees .",
        "I see two cats and keys .",
        some,
        some.replace(".", ""),
        " ".join(["cups"] * 300),
        "",
        "I",
        some,
    ]
    text = [(line, "ja.") for line in lines if line]
    how: dict[str, Any] = {
        "training": {"max_updates": 40, "batch_tokens": 256},
        "validation": {"bleu_sentences": 99, "samples": 99, "every": 40},
        "tokenizer": {"vocab_size": 60},
        "test": {"beam": 1, "max_extra": 7},
    }
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run = run_recipe(tmp_path, {"train": train, "val": text, "test": text}, **how)
    said = [str(warning.message) for warning in told]
    samples = (run / "samples.txt").read_text("utf-8")
    validated = re.findall(r"^  model      (.*)$", samples, re.MULTILINE)[-len(text) :]
    tested = (run / "test" / "test.hyp").read_text("utf-8").splitlines()
    (tmp_path / "lines").write_text("".join(line + "\n" for line, _ in text), encoding="utf-8")
    capsys.readouterr()
    assert main(["translate", str(run), "--input", str(tmp_path / "lines")]) == 0
    translated = capsys.readouterr()
    assert main(["evaluate", str(run), "--split", "validation"]) == 0
    warned = [list(filter(None, capsys.readouterr().err.splitlines())), translated.err.splitlines()]
    evaluated = (run / "evaluation" / "validation.hyp").read_text("utf-8").splitlines()
    assert validated == tested == evaluated == translated.out.splitlines()
    # ... and they say the same, each with the name of its text.
    expected = [line.removeprefix("warning: ") for line in warned[1]]
    assert len(expected) == 3
    assert [line.removeprefix("warning: validation: ") for line in warned[0]] == expected
    for name in ("validation", "test"):
        ours = [line.removeprefix(f"{name}: ") for line in said if line.startswith(f"{name}: ")]
        assert ours[-3:] == expected
    assert json.loads((run / "results.json").read_text("utf-8"))["tests"]["test"]["cut"] > 0


def test_no_sentence_is_cut_because_it_is_longer_than_the_longest_in_training(tmp_path: Path) -> None:
    train = [count(i) for i in range(200)]
    longer = [(source.replace("I see", "I  see ,"), target) for source, target in (count(i) for i in range(200, 215))]
    train += [("I , see", "ich sehe")]
    how = {"training": {"max_updates": 60, "batch_tokens": 512}, "tokenizer": {"vocab_size": 40}, "test": {"beam": 1}}
    run = run_recipe(tmp_path, {"train": train, "val": longer, "test": longer}, **how)
    loaded = load_run(run)
    lengths = [len(ids) + 1 for ids in loaded.tokenizer.source.encode_batch([source for source, _ in longer])]
    assert max(lengths) > loaded.max_source_tokens  # type: ignore[union-attr]
    [last] = [line for line in (run / "metrics.jsonl").read_text().splitlines() if '"valid"' in line][-1:]
    results = json.loads((run / "results.json").read_text("utf-8"))
    assert json.loads(last)["bleu"] == pytest.approx(results["tests"]["test"]["bleu"])
    assert results["tests"]["test"]["bleu"] > 50


def test_the_limit_of_a_length_is_a_field_and_what_it_cuts_is_counted(tmp_path: Path) -> None:
    draw = random.Random(3)
    words = ["the", "red", "boat", "goes", "far", "over", "calm", "blue", "water", "and", "comes", "back"]
    rows = [(f"article {k}", " ".join(draw.choices(words, k=90)) + ".") for k in ("one", "two", "three", "four")]
    texts = {"train": rows, "val": rows, "test": rows}
    how: dict[str, Any] = {
        "training": {"max_updates": 200, "batch_tokens": 512, "label_smoothing": 0.0},
        "tokenizer": {"vocab_size": 80},
    }
    with pytest.warns(UserWarning, match=r"test: 4 of 4 lines .*length limit.*; max_extra \(50 tokens more"):
        run = run_recipe(tmp_path, texts, **how)
    results = json.loads((run / "results.json").read_text("utf-8"))["tests"]["test"]
    assert (results["cut"], results["max_extra"]) == (4, 50)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run_recipe(tmp_path, texts, **how, test={"max_extra": 300})
    assert not [warning for warning in told if str(warning.message).startswith("test: ")]
    raised = json.loads((run / "results.json").read_text("utf-8"))["tests"]["test"]
    assert raised["cut"] == 0
    assert raised["bleu"] > results["bleu"] + 20


@pytest.mark.parametrize("beam", [1, 5])
def test_unknown_is_not_written_unless_asked_for(tmp_path: Path, beam: int) -> None:
    names = [chr(0x4E00 + 37 * i) for i in range(60)]
    rows = [(f"name number {i} here", f"这是{name}先生") for i, name in enumerate(names)]
    rows += [("this", "这是先生这是先生这是先生")] * 200
    how: dict[str, Any] = {
        "training": {"max_updates": 40, "batch_tokens": 512},
        "tokenizer": {"vocab_size": 40, "character_coverage": 0.98},
        "data": {"cleaning": {"drop_duplicates": False}},
        "test": {"beam": beam},
    }
    texts = {"train": rows, "val": rows[:20], "test": rows[:20]}
    run = run_recipe(tmp_path, texts, **how)
    outputs = (run / "test" / "test.hyp").read_text("utf-8")
    assert "⁇" not in outputs + (run / "samples.txt").read_text("utf-8").partition("model")[2].split("reference")[0]
    assert load_run(run).model.config.never_ids == (0, 1, 2)  # type: ignore[union-attr]
    targets = json.loads((run / "results.json").read_text("utf-8"))["targets"]
    assert targets["test"]["not_writable"] > 0
    how["test"]["write_special"] = True
    run_recipe(tmp_path, texts, **how)
    assert "⁇" in (run / "test" / "test.hyp").read_text("utf-8")
