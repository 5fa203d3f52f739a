"""Training that goes on from a model: where it starts, what it keeps, what is refused."""

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer

from transformer_zoo.cli import main as command
from transformer_zoo.config.changes import value_at
from transformer_zoo.errors import UserError
from transformer_zoo.runs.load import load_run

from .. import hub

ROOT = Path(__file__).resolve().parents[2]
Train = Callable[..., dict[str, Any]]


def load_main(family: str) -> Callable[[list[str]], None]:
    spec = importlib.util.spec_from_file_location(f"train_{family}", ROOT / "recipes" / family / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[list[str]], None] = module.main
    return main


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Folders as they are downloaded, and what transformers makes of them."""
    folder = tmp_path_factory.mktemp("hub")
    makers = (hub.marian, hub.nllb, hub.bart, hub.gpt2)
    return {make.__name__: (folder / make.__name__, make(folder / make.__name__)) for make in makers}


def run_recipe(family: str, folder: Path, fields: dict[str, Any], *words: object) -> dict[str, Any]:
    """Trains, and gives what was measured last on the validation text."""
    path = folder / f"{family}.yaml"
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    load_main(family)([str(path), *map(str, words)])
    run_dir = Path(fields["run_dir"])
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "valid"][-1]  # type: ignore[no-any-return]


@pytest.fixture
def translation(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A recipe that goes on from a model with sentences of twelve words, and its last validation."""
    data = {
        "source_lang": "eng_Latn",
        "target_lang": "deu_Latn",
        "train": hub.write_pairs(tmp_path, "train", 200, 1),
        "validation": hub.write_pairs(tmp_path, "val", 20, 2),
        "tests": {"words": hub.write_pairs(tmp_path, "test", 6, 3)},
    }

    def run(init_from: object, *words: object, run_dir: str = "run") -> dict[str, Any]:
        fields = {
            "run_dir": str(tmp_path / run_dir), "device": "cpu", "precision": "float32", "data": data,
            "model": {"init_from": str(init_from)},
            "optimizer": {"lr": 0.003}, "schedule": {"name": "constant", "warmup": 0},
            "training": {"batch_tokens": 256, "max_updates": 12},
            "validation": {"every": 100, "bleu_sentences": 4},
            "checkpoint": {"every": 4, "average_last": 1, "final_weights": "last"}, "test": {"beam": 2},
        }  # fmt: skip
        return run_recipe("translation", tmp_path, fields, *words)

    return run


STANDING = ("--optimizer.lr", 1e-38, "--training.max_updates", 1)


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize("name", ["marian", "nllb", "bart"])
def test_it_starts_at_the_loss_that_transformers_gives_and_lowers_it(
    name: str, models: dict[str, tuple[Path, Any]], translation: Train, tmp_path: Path
) -> None:
    folder, theirs = models[name]
    start = translation(folder, *STANDING, run_dir="standing")["loss"]
    languages = {"src_lang": "eng_Latn", "tgt_lang": "deu_Latn"} if name == "nllb" else {}
    tokenizer = AutoTokenizer.from_pretrained(folder, **languages)
    source, target = hub.pairs(20, 2)
    batch = tokenizer(source, text_target=target, padding=True, return_tensors="pt")
    labels = batch["labels"].masked_fill(batch["labels"] == tokenizer.pad_token_id, -100)
    with torch.no_grad():
        wanted = theirs(**{**batch, "labels": labels}).loss.item()
    assert start == pytest.approx(wanted, abs=1e-4)
    assert translation(folder)["loss"] < start - 0.5
    run = load_run(tmp_path / "run")
    assert (tmp_path / "run" / "results.json").exists()
    assert len((tmp_path / "run" / "test" / "words.hyp").read_text().splitlines()) == 6
    assert run.max_source_tokens == 64  # what the model could take before
    if name == "nllb":
        assert (run.tokenizer.source_language, run.tokenizer.target_language) == ("eng_Latn", "deu_Latn")


def test_a_run_goes_on_without_the_model_that_it_started_from(
    models: dict[str, tuple[Path, Any]], translation: Train, tmp_path: Path
) -> None:
    copy = tmp_path / "downloaded"
    shutil.copytree(models["nllb"][0], copy)
    dropout = ("--model.dropout", 0.2)
    translation(copy, *dropout, run_dir="whole")
    translation(copy, *dropout, "--training.max_updates", 5)
    shutil.rmtree(copy)
    translation(copy, *dropout)
    whole, again = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    config = load_run(tmp_path / "run").model.config
    assert (config.dropout, value_at(config, "attention_dropout")) == (0.2, 0.0)
    with pytest.raises(UserError, match=r"model\.init_from was .*downloaded, now .*marian"):
        translation(models["marian"][0], *dropout)


def test_from_a_run_trained_here_or_imported_with_its_tokenizer_and_subword_sampling(
    models: dict[str, tuple[Path, Any]], translation: Train, tmp_path: Path
) -> None:
    assert command(["import", str(models["marian"][0]), str(tmp_path / "imported")]) == 0
    first = translation(models["marian"][0], *STANDING, run_dir="first")["loss"]
    assert translation(tmp_path / "imported", *STANDING, run_dir="second")["loss"] == first
    # If the model was trained here, pieces of its vocabulary can be sampled.
    shape = {"preset": "opus-mt", "d_model": 16, "n_heads": 2, "d_ff": 20, "n_encoder_layers": 1, "n_decoder_layers": 1}
    fields = yaml.safe_load((tmp_path / "translation.yaml").read_text())
    fields |= {"run_dir": str(tmp_path / "scratch"), "model": shape, "tokenizer": {"vocab_size": 45}}
    last = run_recipe("translation", tmp_path, fields)["loss"]
    scratch = load_run(tmp_path / "scratch").model.config
    assert (scratch.pad_id, scratch.bos_id, scratch.eos_id) == (0, 0, 3)  # a Marian's targets start with pad
    assert translation(tmp_path / "scratch", *STANDING, run_dir="third")["loss"] == pytest.approx(last, abs=1e-6)
    sampled = translation(tmp_path / "scratch", "--tokenizer.sample_alpha", 0.1, run_dir="fourth")
    assert sampled["loss"] < last
    vocabulary = (tmp_path / "scratch" / "tokenizer" / "target.sentencepiece.model").read_bytes()
    assert (tmp_path / "fourth" / "tokenizer" / "target.sentencepiece.model").read_bytes() == vocabulary


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("marian", ["--model.d_model", 32], "model.d_model: model.init_from keeps the model as it is but for dropout"),
        ("marian", ["--model.preset", "opus-mt"], "model.preset: model.init_from keeps the model"),
        ("marian", ["--model.share_embeddings", "all"], "model.share_embeddings: model.init_from"),
        ("marian", ["--model.dropout", 1.5], "dropout is 1.5"),
        ("marian", ["--tokenizer.vocab_size", 50], "tokenizer.vocab_size: model.init_from keeps the tokenizer"),
        ("marian", ["--tokenizer.joint", "false"], "tokenizer.joint: model.init_from keeps"),
        ("marian", ["--tokenizer.sample_alpha", 0.1], "tokenizer.sample_alpha: the tokenizer of this model"),
        ("nllb", ["--data.target_lang", "de"], "data.source_lang and data.target_lang: "),
        ("gpt2", [], "gpt2 is decoder-only; train it with recipes/gpt/train.py"),
        ("nothing", [], "model.init_from: "),
    ],
)
def test_what_is_refused_before_anything_is_written(
    name: str,
    words: list[object],
    message: str,
    models: dict[str, tuple[Path, Any]],
    translation: Train,
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as error:
        translation(models[name][0] if name in models else tmp_path / name, *words)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def text(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A recipe that goes on from a model with English sentences, and its last validation."""
    (tmp_path / "train.txt").write_text("\n".join(hub.pairs(300, 1)[0]), encoding="utf-8")
    (tmp_path / "val.txt").write_text("\n".join(hub.pairs(8, 2)[0]), encoding="utf-8")

    def run(init_from: object, *words: object, run_dir: str = "run") -> dict[str, Any]:
        fields = {
            "run_dir": str(tmp_path / run_dir), "device": "cpu", "precision": "float32",
            "data": {"train": {"path": str(tmp_path / "train.txt")}, "validation": {"path": str(tmp_path / "val.txt")}},
            "model": {"init_from": str(init_from)},
            "optimizer": {"name": "adamw", "lr": 0.003}, "schedule": {"name": "constant", "warmup": 0},
            "training": {"batch_tokens": 256, "max_updates": 12},
            "validation": {"every": 100, "sample_tokens": 5},
            "checkpoint": {"every": 4, "average_last": 1, "final_weights": "last"},
        }  # fmt: skip
        return run_recipe("gpt", tmp_path, fields, *words)

    return run


def test_a_gpt_starts_at_the_loss_that_transformers_gives_and_goes_on_without_its_folder(
    models: dict[str, tuple[Path, Any]], text: Train, tmp_path: Path
) -> None:
    folder, theirs = models["gpt2"]
    start = text(folder, *STANDING, run_dir="standing")["loss"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [*tokenizer((tmp_path / "val.txt").read_text("utf-8"))["input_ids"], 0]
    assert len(ids) <= 65  # one window
    with torch.no_grad():
        logits = theirs(torch.tensor([ids[:-1]])).logits[0]
    assert start == pytest.approx(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:])).item(), abs=1e-4)
    copy = tmp_path / "downloaded"
    shutil.copytree(folder, copy)
    text(copy, "--training.max_updates", 5)
    shutil.rmtree(copy)
    last = text(copy)["loss"]
    assert last < start - 0.5
    text(folder, run_dir="whole")
    whole, again = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert text(tmp_path / "run", *STANDING, run_dir="third")["loss"] == pytest.approx(last, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("gpt2", ["--model.n_layers", 1], "model.n_layers: model.init_from keeps the model as it is but for dropout"),
        ("gpt2", ["--model.max_seq_len", 32], "model.max_seq_len: that of model.init_from is 64, and cannot become 32"),
        ("gpt2", ["--tokenizer.kind", "bytes"], "tokenizer.kind: model.init_from keeps the tokenizer"),
        ("gpt2", ["--data.length", 65], "data.length 65 is more than the 64 positions"),
        ("marian", [], "is an encoder-decoder; train it with recipes/translation/train.py"),
    ],
)
def test_what_a_gpt_is_refused(
    name: str, words: list[object], message: str, models: dict[str, tuple[Path, Any]], text: Train, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        text(models[name][0], *words)
    assert not (tmp_path / "run").exists()
