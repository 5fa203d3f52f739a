"""The translation recipe from raw text to results.json, and the recipes that ship."""

import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from transformer_zoo.config.changes import value_at
from transformer_zoo.errors import UserError
from transformer_zoo.evaluation import corpus_score
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.runs.exporting import write_huggingface
from transformer_zoo.runs.load import Run, load_run
from transformer_zoo.tokenizers import TranslationTokenizer, TranslationTokenizerSettings
from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.tasks.translation import model_config
from transformer_zoo.training.tasks.translation_recipe import TranslationRecipe

from .. import hub
from .shown import shown

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "recipes" / "translation" / "train.py"
RECIPES = sorted(SCRIPT.parent.glob("*.yaml"))
NO_BLEU = ["--validation.bleu_sentences", "0", "--validation.best_by", "loss"]
WORDS = {"red": "rot", "green": "grün", "blue": "blau", "cat": "Katze", "dog": "Hund", "a": "ein"}


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("train", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_text(folder: Path, name: str, n: int, seed: int) -> dict[str, str]:
    draw = random.Random(seed)
    lines = [draw.choices(list(WORDS), k=draw.randint(2, 6)) for _ in range(n)]
    (folder / f"{name}.en").write_text("".join(" ".join(words) + "\n" for words in lines), "utf-8")
    german = [" ".join(WORDS[word] for word in words) for words in lines]
    (folder / f"{name}.de").write_text("".join(line + "\n" for line in german), "utf-8")
    return {"source": str(folder / f"{name}.en"), "target": str(folder / f"{name}.de")}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of a few seconds over a language of six words."""
    fields = {
        "run_dir": str(tmp_path / "run"),
        "device": "cpu",
        "precision": "float32",
        "data": {
            "source_lang": "en",
            "target_lang": "de",
            "train": write_text(tmp_path, "train", 300, 1),
            "validation": write_text(tmp_path, "val", 20, 2),
            "tests": {"words": write_text(tmp_path, "test", 12, 3)},
        },
        "tokenizer": {"vocab_size": 45},
        "model": {"preset": "transformer-tiny", "d_model": 16, "d_ff": 20, "n_heads": 2}
        | {"n_encoder_layers": 1, "n_decoder_layers": 1},
        "schedule": {"name": "inverse_sqrt", "warmup": 3},
        "training": {"batch_tokens": 128, "max_updates": 12, "log_every": 5},
        "validation": {"every": 6, "best_by": "bleu", "bleu_sentences": 8, "samples": 2},
        "checkpoint": {"every": 4, "average_last": 2},
        "test": {"beam": 2},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(fields), "utf-8")
    return path


@pytest.fixture
def train() -> Callable[..., None]:
    """The recipe's main, in this process."""
    main: Callable[[list[str]], None] = load_script().main
    return lambda *words: main([str(word) for word in words])


def test_targets_that_cannot_be_written_are_shown_before_training(
    recipe: Path, tmp_path: Path, train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, line in (("train", "½ Katze"), ("val", "Katze ж")):
        with (
            open(tmp_path / f"{name}.de", "a", encoding="utf-8") as target,
            open(tmp_path / f"{name}.en", "a") as source,
        ):
            target.write(line + "\n")
            source.write("a cat\n")
    train(recipe, "--tokenizer.target_normalization", "nfkc", "--tokenizer.vocab_size", 50, "--training.max_updates", 1)
    said = capsys.readouterr().out
    shown = [line for line in said.partition("parameters on")[0].splitlines() if "cannot be written" in line]
    assert re.match(r"warning: train: 1 of \d+ targets \(0.\d+%\) cannot be written: '½ Kat", shown[0])
    assert "'½ Katze' at best as '1⁄2 Katze' (see tokenizer.target_normalization" in shown[0]
    assert shown[1].startswith("warning: validation: 1 of 21 targets (4.76%) cannot be written: 'Katze ж' at best as")
    targets = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))["targets"]
    assert targets["train"]["examples"] == [{"line": "½ Katze", "at_best": "1⁄2 Katze"}]
    assert [targets[name]["not_writable"] for name in ("train", "validation", "words")] == [1, 1, 0]


def test_from_raw_text_to_scores_in_one_folder(
    recipe: Path, tmp_path: Path, train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe)
    run_dir, said = tmp_path / "run", capsys.readouterr().out
    results = json.loads((run_dir / "results.json").read_text())
    bleu = results["tests"]["words"]
    assert f"| A Machine | words | {bleu['bleu']:.2f} |" in shown("demo", results, tmp_path)
    assert f"words: BLEU {bleu['bleu']:.2f}  {bleu['signatures']['bleu']}" in said
    assert "tok:13a" in bleu["signatures"]["bleu"]
    assert said.startswith("BLEU: sacreBLEU's tokenizer 13a, by data.target_lang de\n")
    writable = {name: (text["lines"], text["not_writable"]) for name, text in results["targets"].items()}
    assert {name: n for name, (_, n) in writable.items()} == {"train": 0, "validation": 0, "words": 0}
    assert writable["words"] == (12, 0)
    assert set(results["leaks"]) == {"validation", "words"}
    for name, text in (("src", tmp_path / "test.en"), ("ref", tmp_path / "test.de")):
        assert (run_dir / "test" / f"words.{name}").read_bytes() == text.read_bytes()
    assert len((run_dir / "test" / "words.hyp").read_text().splitlines()) == 12
    for name in ("config.yaml", "model.json", "model.safetensors", "tokenizer/tokenizer_kind.json", "tensorboard"):
        assert (run_dir / name).exists(), name
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    valid = [record for record in records if record["kind"] == "valid"]
    assert [record["step"] for record in valid] == [6, 12]
    assert set(valid[0]) == {"kind", "step", "loss", "perplexity", "bleu"}
    samples = (run_dir / "samples.txt").read_text()
    assert samples.count("source") == samples.count("reference") == 4
    run = load_run(run_dir)
    assert run.recipe["training"]["max_updates"] == 12
    sources = run.tokenizer.source.encode_batch((tmp_path / "train.en").read_text("utf-8").splitlines())
    assert run.max_source_tokens == max(map(len, sources)) + 1

    before = (run_dir / "model.safetensors").read_bytes()
    train(recipe)
    assert "is finished" in capsys.readouterr().out
    train(recipe, "--test.beam", "1")
    assert json.loads((run_dir / "results.json").read_text())["tests"]["words"]["beam"] == 1
    assert (run_dir / "model.safetensors").read_bytes() == before
    train(recipe, "--test.beam", "1", "--checkpoint.final_weights", "last")
    assert (run_dir / "model.safetensors").read_bytes() != before
    capsys.readouterr()
    train(recipe, "--test.beam", "1", "--checkpoint.final_weights", "last")
    assert "is finished" in capsys.readouterr().out
    train(run_dir / "config.yaml", "--training.max_updates", "14")
    assert json.loads((run_dir / "results.json").read_text())["step"] == 14
    assert (run_dir / "model.safetensors").read_bytes() != before
    with pytest.raises(UserError, match=r"optimizer\.lr was None, now 0.5.*--allow_change true"):
        train(recipe, "--optimizer.lr", "0.5")


def test_leaks_are_counted_and_blank_targets_dropped(
    recipe: Path, tmp_path: Path, train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first validation pair and, in capitals, the first test source stand in the training text."""
    validation, test = ((tmp_path / f"{name}.en").read_text("utf-8").splitlines()[0] for name in ("val", "test"))
    german = (tmp_path / "val.de").read_text("utf-8").splitlines()[0]
    for name, lines in {
        "train.en": [test.upper() + "!" * 60, validation, "a cat", "a dog"],
        "train.de": ["ein", german, "\u200b", "\ufeff \u200e"],
    }.items():
        (tmp_path / name).write_text("".join(line + "\n" for line in lines), "utf-8")
    for name in ("val", "test"):
        for side in ("en", "de"):
            lines = (tmp_path / f"{name}.{side}").read_text("utf-8").splitlines()
            (tmp_path / f"{name}.{side}").write_text(lines[0] + "\n", "utf-8")
    train(recipe, "--training.max_updates", "1", "--tokenizer.vocab_size", "40")
    said = capsys.readouterr()
    assert "dropped 2 invisible (zero-width, direction and control characters alone) (lines 3, 4)" in said.out
    assert "warning: validation: of its 1 pairs 1 sources, 1 targets, 1 pairs stand in the training text" in said.out
    none, pair = ({"sources": n, "targets": n, "pairs": n} for n in (0, 1))
    assert json.loads((tmp_path / "run" / "results.json").read_text())["leaks"] == {
        "validation": {"of": 1, "exact": pair, "near": pair},
        "words": {"of": 1, "exact": none, "near": {"sources": 1, "targets": 0, "pairs": 0}},
    }


@pytest.mark.parametrize("name", ["train", "validation"])
def test_a_test_does_not_take_the_name_of_another_split(recipe: Path, train: Callable[..., None], name: str) -> None:
    fields = yaml.safe_load(recipe.read_text())
    fields["data"]["tests"] = {name: fields["data"]["tests"]["words"]}
    recipe.write_text(yaml.safe_dump(fields))
    with pytest.raises(UserError, match=rf"data\.tests: '{name}' is the name of another split"):
        train(recipe)


def test_several_references_and_metrics(
    recipe: Path, tmp_path: Path, train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Some other words are as good, and for some lines there are none."""
    other = (tmp_path / "test.de").read_text("utf-8").replace("ein", "der").splitlines()
    (tmp_path / "other.de").write_text("\n".join(["", *other[1:]]) + "\n", "utf-8")
    third = tmp_path / "third.de"
    third.write_text((tmp_path / "val.de").read_text("utf-8").replace("Katze", "Kater"), "utf-8")
    fields = yaml.safe_load(recipe.read_text("utf-8"))
    fields["data"]["tests"]["words"]["references"] = [str(tmp_path / "other.de")]
    fields["data"]["validation"]["references"] = [str(third)]
    fields["test"]["metrics"] = ["chrf++", "bleu"]
    recipe.write_text(yaml.safe_dump(fields), "utf-8")
    train(recipe)
    run_dir, said = tmp_path / "run", capsys.readouterr().out
    test = json.loads((run_dir / "results.json").read_text())["tests"]["words"]
    hypotheses, *references = (
        (run_dir / "test" / f"words.{kind}").read_text("utf-8").splitlines() for kind in ("hyp", "ref", "ref2")
    )
    assert references[1] == ["", *other[1:]]
    scores = corpus_score(hypotheses, references, ["chrf++", "bleu"])
    for label, score in zip(("chrF2++", "BLEU"), scores, strict=True):
        assert (test[score.metric], test["signatures"][score.metric]) == (score.score, score.signature)
        assert f"words: {label} {score.score:.2f}  {score.signature}" in said
    assert "nrefs:var" in scores[1].signature
    assert test["exact"] == sum(line in pair for line, *pair in zip(hypotheses, *references, strict=True))
    [*_, last] = [r for r in map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines()) if "bleu" in r]
    assert last["bleu"] >= 0


@pytest.mark.parametrize(
    ("language", "tokenizer"), [("zh", "zh"), ("zho_Hant", "zh"), ("th", "char"), ("my_MM", "char"), ("de_DE", "13a")]
)
@pytest.mark.parametrize("chosen", [None, "intl"])
def test_validation_and_tests_are_scored_by_the_target_language(
    recipe: Path, tmp_path: Path, language: str, tokenizer: str, chosen: str | None,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    script, used = load_script(), set()

    def scored(*arguments: Any, tokenize: str) -> Any:
        used.add(tokenize)
        return corpus_score(*arguments, tokenize=tokenize)

    for module in ("training.tasks.translation", "runs.kept_tests"):
        monkeypatch.setattr(f"transformer_zoo.{module}.corpus_score", scored)
    words = ["--data.target_lang", language, "--training.max_updates", "2", "--validation.every", "2"]
    words += [] if chosen is None else ["--test.bleu_tokenize", chosen]
    words += ["--checkpoint.average_last", "1"]
    script.main([str(recipe), *words])
    said = capsys.readouterr().out
    by = f"data.target_lang {language}" if chosen is None else "test.bleu_tokenize"
    assert said.startswith(f"BLEU: sacreBLEU's tokenizer {chosen or tokenizer}, by {by}\n")
    assert used == {chosen or tokenizer}
    assert f"|tok:{chosen or tokenizer}|" in said
    with pytest.raises(UserError, match=r"test\.bleu_tokenize was .*, now none"):
        script.main([str(recipe), *words, "--training.max_updates", "4", "--test.bleu_tokenize", "none"])


@pytest.mark.parametrize(("language", "extra"), [("ja", "ja"), ("jpn_Jpan", "ja"), ("ko_KR", "ko")])
def test_a_language_whose_tokenizer_is_not_installed_is_refused_before_anything_is_written(
    recipe: Path, tmp_path: Path, train: Callable[..., None], language: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{extra}_mecab.MeCab", None)
    install = rf"test\.bleu_tokenize: .*pip install 'sacrebleu\[{extra}\]'.*char.*data.target_lang {language}"
    for words in ([], NO_BLEU, ["--data.tests", "{}"]):
        with pytest.raises(UserError, match=install):
            train(recipe, "--data.target_lang", language, *words)
    assert not (tmp_path / "run").exists()
    for words in (["--test.bleu_tokenize", "char"], [*NO_BLEU, "--test.metrics", '["chrf"]']):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        train(recipe, "--data.target_lang", language, *words, "--training.max_updates", "1", "--validation.every", "1")


@pytest.mark.slow
def test_chinese_is_learnt_and_not_stopped_early(tmp_path: Path, train: Callable[..., None]) -> None:
    """A tiny translator into Chinese, whose BLEU by 13a is 0 until the last."""
    objects = {"apples": "苹果", "books": "书", "cats": "猫", "cups": "杯子", "keys": "钥匙", "hats": "帽子"}
    numbers = {"two": "两个", "three": "三个", "four": "四个", "five": "五个", "six": "六个"}
    people = {"I": "我", "You": "你", "He": "他", "She": "她", "We": "我们"}
    rows = [
        f"{who} saw {n} {thing}.\t{a}看见了{b}{c}。\n"
        for who, a in people.items()
        for n, b in numbers.items()
        for thing, c in objects.items()
    ]
    random.Random(1).shuffle(rows)
    for name, part in (("train", rows[:110]), ("validation", rows[110:130])):
        (tmp_path / f"{name}.tsv").write_text("".join(part), "utf-8")
    fields = {
        "run_dir": str(tmp_path / "run"),
        "device": "cpu",
        "precision": "float32",
        "data": {"source_lang": "en", "target_lang": "zh"}
        | {name: {"tsv": str(tmp_path / f"{name}.tsv")} for name in ("train", "validation")},
        "model": {"preset": "transformer-tiny", "d_model": 64, "d_ff": 128, "dropout": 0.1},
        "tokenizer": {"vocab_size": 90},
        "optimizer": {"lr": 3e-3},
        "schedule": {"name": "inverse_sqrt", "warmup": 30},
        "training": {"batch_tokens": 512, "max_updates": 400, "log_every": 20},
        "validation": {"every": 20, "best_by": "bleu", "patience": 5, "samples": 1},
        "checkpoint": {"every": 20, "final_weights": "best"},
    }
    (tmp_path / "zh.yaml").write_text(yaml.safe_dump(fields), "utf-8")
    train(tmp_path / "zh.yaml")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [r["bleu"] for r in records if "bleu" in r][-1] == pytest.approx(100)


def test_separate_vocabularies_sampling_and_the_same_config_again_give_the_same_run(
    recipe: Path, tmp_path: Path, train: Callable[..., None]
) -> None:
    words = ["--tokenizer.joint", "false", "--tokenizer.target_vocab_size", "38"]
    words += ["--tokenizer.vocab_size", "40", "--tokenizer.sample_alpha", "0.1"]
    words += ["--validation.bleu_sentences", "0", "--validation.best_by", "loss", "--validation.samples", "0"]
    for name in ("a", "b"):
        train(recipe, *words, "--run_dir", tmp_path / name)
    run = load_run(tmp_path / "a")
    assert not run.tokenizer.joint
    assert run.model.config.target_vocab_size == 38
    left, right = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert left == right
    assert (tmp_path / "a" / "samples.txt").read_text() == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.train.source", "nowhere.en"], "nowhere.en: no such file"),
        (["--data.validation.target", "nowhere.de"], "nowhere.de: no such file"),
        (["--data.train.tsv", "x.tsv"], "data.train: parallel text"),
        (["--model.preset", "transformer-huge"], "transformer-huge"),
        (["--model.dropout", "1.5"], "dropout is 1.5"),
        (["--model.n_heads", "3"], "n_heads 3"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--training.accumulate", "0"], "training.accumulate is 0"),
        (["--validation.bleu_sentences", "0"], "nothing to choose by"),
        (["--run_dir", "/dev/null/run"], "run_dir: /dev/null/run"),
        (["--seed", "-1"], "seed is -1"),
        (["--test.beam", "0"], "test.beam is 0"),
        (["--test.bleu_tokenize", "14a"], "test.bleu_tokenize: tokenizer '14a' is unknown"),
        (["--test.metrics", "[]"], "test.metrics is empty"),
        (
            ["--test.bleu_tokenize", "zh", "--test.metrics", '["ter"]', *NO_BLEU],
            "test.bleu_tokenize has no effect",
        ),
        (["--data.train.references", '["x"]'], "data.train.references: training takes one target"),
        (["--data.validation.references", '["nowhere.de"]'], "nowhere.de: no such file"),
        (["--data.tests", '{"a/b": {"tsv": "x"}}'], "data.tests: 'a/b'"),
        (["--data.cleaning.max_tokens", "-1"], "data.cleaning.max_tokens is -1"),
        (["--data.cleaning.max_length_ratio", "0.5"], "data.cleaning.max_length_ratio is 0.5"),
        (["--tokenizer.vocab_size", "4"], "tokenizer.vocab_size is 4"),
        (["--tokenizer.target_vocab_size", "30"], "tokenizer.target_vocab_size: a joint vocabulary"),
        (["--tokenizer.character_coverage", "0.5"], "tokenizer.character_coverage is 0.5"),
        (["--tokenizer.sample_alpha", "1.5"], "tokenizer.sample_alpha is 1.5"),
        (["--tokenizer.training_lines", "-1"], "tokenizer.training_lines is -1"),
        (
            ["--tokenizer.joint", "false", "--model.share_embeddings", "all"],
            "model.share_embeddings is all, and tokenizer.joint is false",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    words: list[str], message: str, recipe: Path, tmp_path: Path, train: Callable[..., None]
) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as error:
        train(recipe, *words)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_sentences_longer_than_learned_positions_are_reported_and_survived(
    recipe: Path, tmp_path: Path, train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train", "val", "test"):
        for side, word in (("en", "cat"), ("de", "Katze")):
            with (tmp_path / f"{name}.{side}").open("a") as file:
                file.write(f"{word} " * 60 + "\n")
    with pytest.warns(UserWarning, match=r"line \d+: much longer than max_source_tokens"):
        train(recipe, "--model.positions", "learned", "--model.max_seq_len", "40")
    said = capsys.readouterr().out
    assert "val.de: kept 20 of 21 pairs; dropped 1 of more than 40 tokens (line 21)" in said
    assert json.loads((tmp_path / "run" / "results.json").read_text())["tests"]["words"]["sentences"] == 13


@pytest.mark.gpu
def test_a_run_on_a_gpu_from_raw_text_to_scores(recipe: Path, tmp_path: Path) -> None:
    fields = yaml.safe_load(recipe.read_text()) | {"device": "auto", "precision": "auto", "compile": "auto"}
    recipe.write_text(yaml.safe_dump(fields))
    done = subprocess.run(**command(recipe), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "parameters on cuda:0" in done.stdout
    assert json.loads((tmp_path / "run" / "results.json").read_text())["step"] == 12
    assert load_run(tmp_path / "run", device="cuda").model.head_weight.is_cuda


def test_a_vocabulary_that_is_too_large_can_be_corrected_in_the_same_folder(
    recipe: Path, train: Callable[..., None]
) -> None:
    with pytest.raises(UserError, match="vocab_size"):
        train(recipe, "--tokenizer.vocab_size", "5000")
    train(recipe, "--training.max_updates", "2")


def command(recipe: Path) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return {"args": [sys.executable, str(SCRIPT), str(recipe)], "env": environment, "text": True}


def test_an_error_is_one_line_on_stderr_without_a_traceback(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "train.en").unlink()
    result = subprocess.run(**command(recipe), capture_output=True, check=False)
    assert result.returncode == 1
    assert result.stderr == f"error: {tmp_path / 'train.en'}: no such file\n"


def test_what_the_system_refuses_is_one_line_too(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tokenizer").touch()  # a file where a folder has to be
    result = subprocess.run(**command(recipe), capture_output=True, check=False)
    assert result.returncode == 1
    assert result.stderr == f"error: {tmp_path / 'run' / 'tokenizer'} is in the way of a folder: move it elsewhere\n"


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_weights(recipe: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(**command(recipe), stdout=subprocess.PIPE)
        wanted = 1 if number == signal.SIGKILL else 6
        while not (run_dir / "checkpoints" / "last.pt").exists() and process.poll() is None:
            time.sleep(0.001)
        metrics = run_dir / "metrics.jsonl"
        while len(metrics.read_bytes().splitlines()) < wanted and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    subprocess.run(**command(recipe), check=True)
    killed = load_file(run_dir / "model.safetensors")
    again = yaml.safe_load(recipe.read_text()) | {"run_dir": str(tmp_path / "whole")}
    recipe.write_text(yaml.safe_dump(again))
    subprocess.run(**command(recipe), check=True)
    for name, value in load_file(tmp_path / "whole" / "model.safetensors").items():
        assert killed[name].equal(value), name


def shipped(name: str) -> Any:
    parsed = parsed_recipe([str(SCRIPT.parent / f"{name}.yaml")])
    return parsed


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_resolves_and_says_what_it_costs(path: Path) -> None:
    parsed = shipped(path.stem)
    assert isinstance(parsed, RunConfig)
    parsed.validate()
    model_config(parsed)
    for files in (parsed.data.train, parsed.data.validation, *parsed.data.tests.values()):
        files.validate()
    assert parsed.run_dir == f"runs/{path.stem}"
    header = path.read_text().split("run_dir:")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    for word in ("Prepare: transformer-zoo prepare", "tokens", "(?i)minutes|hours"):
        assert re.search(word, header), word


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_an_m2m100_of_its_own_vocabulary_is_one_in_transformers(tmp_path: Path) -> None:
    shape = {"d_model": 24, "n_heads": 3, "d_ff": 29, "n_encoder_layers": 1, "n_decoder_layers": 1}
    options = [word for name, size in shape.items() for word in (f"--model.{name}", str(size))]
    path = str(SCRIPT.parent / "numbers.yaml")
    parsed = parsed_recipe([path, "--model.preset", "m2m100-418m", *options])
    tokenizer = TranslationTokenizer.train(*hub.pairs(200, 0), TranslationTokenizerSettings(vocab_size=61))
    torch.manual_seed(0)
    ours = EncoderDecoder(model_config(parsed, tokenizer)).eval()
    assert write_huggingface(Run(ours, tokenizer, {}, 64), tmp_path) == "m2m_100"
    line = hub.pairs(1, 1)[0][0]
    source = AutoTokenizer.from_pretrained(tmp_path)(line, return_tensors="pt")["input_ids"]
    assert source.tolist() == [[*tokenizer.source.encode(line), ours.config.eos_id]]
    theirs, target = AutoModelForSeq2SeqLM.from_pretrained(tmp_path), source.flip(1)
    with torch.no_grad():
        logits = theirs(input_ids=source, decoder_input_ids=target).logits
        torch.testing.assert_close(ours(source, target), logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("preset", "forced"), [("opus-mt", 3), ("mbart-large-50", 3), ("t5-small", None)])
def test_ids_of_a_preset_give_way_to_the_tokenizer_s(preset: str, forced: int | None) -> None:
    parsed = parsed_recipe([str(SCRIPT.parent / "numbers.yaml"), "--model.preset", preset])
    tokenizer = TranslationTokenizer.train(*hub.pairs(200, 0), TranslationTokenizerSettings(vocab_size=61))
    config = model_config(parsed, tokenizer)
    assert (config.eos_id, config.forced_last_id, config.source_end_id) == (3, forced, None)
    assert set(config.never) == {0, 1, 2}  # pad, unknown, begin


def test_each_corpus_has_a_recipe_and_the_paper_s_two_sizes_too() -> None:
    names = {"numbers", "multi30k", "multi30k_published", "tatoeba", "wmt14_base", "wmt14_big"}
    assert names <= {path.stem for path in RECIPES}


def parsed_recipe(words: list[str]) -> TranslationRecipe:
    from transformer_zoo.commandline import parse_recipe  # a machine with a GPU may lack what it needs

    return parse_recipe(TranslationRecipe, words)


def values(config: Any, names: str) -> tuple[Any, ...]:
    """What a configuration has under these short names."""
    return tuple(value_at(config, name) for name in names.split())


@pytest.mark.parametrize(("name", "dropout", "updates", "last"), [("base", 0.1, 100_000, 5), ("big", 0.3, 300_000, 20)])
def test_wmt14_is_trained_as_in_the_paper(name: str, dropout: float, updates: int, last: int) -> None:
    parsed = shipped(f"wmt14_{name}")
    model = model_config(parsed)
    wide = (512, 2048, 8) if name == "base" else (1024, 4096, 16)
    assert values(model, "d_model d_ff n_heads") == wide
    assert values(model, "n_encoder_layers n_decoder_layers norm_position") == (6, 6, "post")
    assert values(model, "dropout attention_dropout activation_dropout") == (dropout, 0.0, 0.0)
    schedule, optimizer, training = parsed.schedule, parsed.optimizer, parsed.training
    assert (schedule.name, schedule.warmup, schedule.factor) == ("noam", 4000, 1.0)
    assert (optimizer.name, optimizer.betas, optimizer.eps) == ("adam", (0.9, 0.98), 1e-9)
    assert training.batch_tokens * training.accumulate == 25_000
    assert (training.label_smoothing, training.max_updates) == (0.1, updates)
    assert (parsed.checkpoint.average_last, parsed.checkpoint.final_weights) == (last, "average")
    assert (parsed.test.beam, parsed.test.length_penalty, parsed.test.penalty) == (4, 0.6, "gnmt")
    tokenizer = parsed.tokenizer
    assert (tokenizer.vocab_size, tokenizer.model_type, tokenizer.joint) == (37_000, "bpe", True)


def test_multi30k_published_has_the_published_setting() -> None:
    parsed = shipped("multi30k_published")
    model = model_config(parsed)
    assert values(model, "d_model d_ff n_heads dropout") == (128, 256, 4, 0.3)
    assert values(model, "n_encoder_layers n_decoder_layers") == (4, 4)
    assert (parsed.optimizer.lr, parsed.schedule.name, parsed.schedule.warmup) == (5e-3, "inverse_sqrt", 2000)
    assert (parsed.training.batch_tokens, parsed.training.max_updates) == (8192, 8000)
    assert parsed.training.label_smoothing == 0.1
    assert (parsed.tokenizer.vocab_size, parsed.tokenizer.joint) == (10_000, True)
    assert (parsed.checkpoint.average_last, parsed.checkpoint.final_weights) == (10, "average")
    assert (parsed.test.beam, parsed.test.bleu_tokenize) == (5, "none")
    assert all(".lc.norm.tok." in str(files) for files in parsed.data.tests.values())


@pytest.mark.parametrize(
    "words",
    [["--model.d_ff", "1000000000"], ["--tokenizer.vocab_size", "2000000000"], ["--model.d_model", "1000000000"]],
)
def test_a_model_that_cannot_fit_is_refused_before_anything_is_read(
    recipe: Path, tmp_path: Path, train: Callable[..., None], words: list[str]
) -> None:
    (tmp_path / "train.en").unlink()
    with pytest.raises(UserError, match=r"^at least [\d,]+ bytes of memory are needed \(weights [\d,]+, gradients"):
        train(recipe, *words)
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverged_goes_on_as_it_says(recipe: Path, tmp_path: Path, train: Callable[..., None]) -> None:
    mad = ["--optimizer.name", "adam", "--optimizer.lr", "1e30"]
    with pytest.raises(UserError, match=r"nothing is kept.*Start again with --optimizer\.lr 3\.3e\+29$"):
        train(recipe, *mad)
    train(recipe, "--optimizer.lr", "0.01", "--training.max_updates", 4)
    sane = ["--optimizer.lr", "0.01", "--training.max_updates", 12]
    with pytest.raises(UserError, match=r"optimizer\.lr was 0\.01, now 1e\+30.*resume with the change: --allow_change"):
        train(recipe, *sane, "--optimizer.lr", "1e30")
    with pytest.raises(UserError, match=r"update 4 is kept in .*resumes from there with --optimizer\.lr .* --allow"):
        train(recipe, *sane, "--optimizer.lr", "1e30", "--allow_change", "true")
    train(recipe, *sane, "--optimizer.lr", "0.002", "--allow_change", "true")
    assert "allow_change" not in (tmp_path / "run" / "config.yaml").read_text()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["step"], results["validation"]["loss"] < 10) == (12, True)
    with pytest.raises(UserError, match="seed was 1, now 2") as refused:  # another run altogether
        train(recipe, *sane, "--optimizer.lr", "0.002", "--seed", 2, "--allow_change", "true")
    assert "go on" not in str(refused.value)
