"""Every field of a recipe: what is out of range is refused by name, and what would have no effect is too."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from tests.having import having
from transformer_zoo.config import BeamSearch, Sampling
from transformer_zoo.data import ParallelFiles, TextFiles
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import TokenizerSettings, TranslationTokenizerSettings
from transformer_zoo.tokenizers.kinds import KINDS
from transformer_zoo.training.config import OptimizerConfig, RunConfig, ScheduleConfig
from transformer_zoo.training.optimizer import make_optimizer
from transformer_zoo.training.schedule import learning_rate, peak_rate, warmup_of
from transformer_zoo.training.tasks.language import GptRecipe, TextConfig
from transformer_zoo.training.tasks.translation_recipe import DataConfig, TranslationRecipe


def translation(tmp_path: Path) -> TranslationRecipe:
    files = ParallelFiles(tsv="pairs.tsv")
    data = DataConfig(source_lang="en", target_lang="de", train=files, validation=files)
    return TranslationRecipe(run_dir=str(tmp_path / "run"), data=data)


def gpt(tmp_path: Path) -> GptRecipe:
    (tmp_path / "text.txt").write_text("text")
    text = TextFiles(path=str(tmp_path / "text.txt"))
    return GptRecipe(run_dir=str(tmp_path / "run"), data=TextConfig(train=text, validation=text))


def numbers(section: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names of all fields that take numbers, with the types they have."""
    for field in dataclasses.fields(section):
        value, kind = getattr(section, field.name), str(field.type)
        if dataclasses.is_dataclass(value):
            if field.name != "model":  # a configuration's own affair
                yield from numbers(value, f"{prefix}{field.name}.")
        elif "float" in kind or "int" in kind:
            yield prefix + field.name, kind


@pytest.mark.parametrize("make", [translation, gpt])
def test_no_number_may_be_none_negative_or_without_end(make: Any, tmp_path: Path) -> None:
    make(tmp_path).validate()
    names = dict(numbers(make(tmp_path)))
    assert len(names) > 25
    for name, kind in names.items():
        wrong: list[Any] = [-1, 2**63] if "float" not in kind else [math.nan, math.inf, -math.inf]
        for value in (
            wrong if name != "optimizer.betas" else [(math.nan, 0.9), (0.9, math.inf), (-0.1, 0.9), (0.9, 1.0)]
        ):
            recipe = make(tmp_path)
            recipe = having(recipe, name, value)
            last = name.rsplit(".")[-1]
            with pytest.raises(UserError, match=rf"{last}\b") as refused:
                recipe.validate()
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("test.length_penalty", 400.0),
        ("test.beam", 100_000),
        ("test.beam", 0),
        ("validation.beam", 100_000),
        ("optimizer.lr", 0.0),
        ("optimizer.eps", 0.0),
        ("optimizer.ns_steps", 0),
        ("schedule.final_ratio", 1.5),
        ("training.label_smoothing", 1.0),
        ("training.ema_decay", 1.0),
        ("training.max_minutes", 0.0),
        ("tokenizer.vocab_size", 4),
        ("tokenizer.character_coverage", 0.5),
    ],
)
def test_what_would_fail_in_the_end_is_refused_in_the_beginning(name: str, value: Any, tmp_path: Path) -> None:
    recipe = translation(tmp_path)
    if name == "schedule.final_ratio":
        recipe = having(recipe, "schedule.name", "linear")
    recipe = having(recipe, name, value)
    with pytest.raises(UserError, match=f"^{name} is {value}, expected"):
        recipe.validate()


OTHER: dict[str, Any] = {
    "lr": 0.01, "adam_lr": 0.003, "betas": (0.5, 0.6), "eps": 0.1, "momentum": 0.5, "ns_steps": 2, "weight_decay": 0.3,
    "warmup": 7, "factor": 3.0, "decay": 11, "final_ratio": 0.5,
}  # fmt: skip


def steps(optimizer: OptimizerConfig, schedule: ScheduleConfig) -> list[float]:
    """What forty updates with these gradients make of some weights."""
    torch.manual_seed(1)
    model = nn.ModuleDict({"q_proj": nn.Linear(5, 5), "head": nn.Linear(5, 3)})
    model.stacks = ("q_proj",)
    peak = peak_rate(optimizer, schedule, d_model=64)
    made = make_optimizer(model, optimizer, lr=peak)
    warmup = warmup_of(40) if schedule.warmup is None else schedule.warmup
    for step in range(1, 41):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step)) + 0.3
        made.set_learning_rate(learning_rate(step, schedule, peak=peak, warmup=warmup, last=40))
        made.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


@pytest.mark.parametrize("optimizer", get_args(OptimizerConfig.__annotations__["name"]))
@pytest.mark.parametrize("schedule", get_args(ScheduleConfig.__annotations__["name"]))
def test_every_field_of_optimizer_and_schedule_changes_the_weights_or_is_refused(optimizer: Any, schedule: Any) -> None:
    def run() -> RunConfig:
        optimizer_config, schedule_config = OptimizerConfig(name=optimizer), ScheduleConfig(name=schedule)
        return RunConfig(run_dir="x", optimizer=optimizer_config, schedule=schedule_config)

    before = steps(run().optimizer, run().schedule)
    for section in ("optimizer", "schedule"):
        for field in dataclasses.fields(getattr(run(), section)):
            if field.name == "name":
                continue
            changed = run()
            changed = having(changed, f"{section}.{field.name}", OTHER[field.name])
            try:
                changed.validate()
            except UserError as error:
                said = str(error)
                assert said.startswith(f"{section}.{field.name} is "), said
                assert said.endswith("leave it out")
                same = steps(changed.optimizer, changed.schedule) == before
                assert same or field.name == "weight_decay", f"{field.name} has an effect with {optimizer}, {schedule}"
            else:
                assert steps(changed.optimizer, changed.schedule) != before, f"{field.name}: {optimizer}, {schedule}"


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_another_kind_of_tokenizer_are_refused(kind: Any, tmp_path: Path) -> None:
    has = {
        "characters": {"end_of_text"},
        "words": {"end_of_text", "vocab_size"},
        "bytes": set(),
        "tiktoken": {"encoding"},
        "sentencepiece": {"vocab_size", "model_type", "training_characters"},
        "huggingface": {"folder"},
    }[kind]
    others = {"encoding": "cl100k_base", "vocab_size": 300, "model_type": "unigram", "end_of_text": False}
    others |= {"training_characters": 1000, "folder": "x"}
    assert others.keys() == {f.name for f in dataclasses.fields(TokenizerSettings)} - {"kind"}
    for name, value in others.items():
        recipe = gpt(tmp_path)
        recipe = having(recipe, "tokenizer.kind", kind)
        if kind == "sentencepiece":
            recipe = having(recipe, "tokenizer.vocab_size", 270)
        recipe = having(recipe, f"tokenizer.{name}", value)
        if name in has:
            recipe.validate()
        else:
            with pytest.raises(UserError, match=f"^tokenizer.{name} is .* no effect where tokenizer.kind is {kind}"):
                recipe.validate()


NORMALIZED = ["vocab_size", "model_type", "character_coverage", "byte_fallback", "normalization", "training_lines"]
READ_BY = {
    "characters": [],
    "words": ["vocab_size"],
    "bytes": [],
    "tiktoken": ["encoding"],
    "sentencepiece": [*NORMALIZED, "target_normalization", "target_vocab_size", "sample_alpha"],
    "huggingface": ["folder"],
}


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_neither_side_of_a_translation_reads_is_refused(kind: Any, target_kind: Any, joint: bool) -> None:
    others: dict[str, Any] = {"encoding": "cl100k_base", "vocab_size": 300, "target_vocab_size": 300, "folder": "x"}
    others |= {"model_type": "unigram", "character_coverage": 0.99, "byte_fallback": True, "training_lines": 9}
    others |= {"normalization": "nfkc", "target_normalization": "nfkc", "sample_alpha": 0.1}
    names = {field.name for field in dataclasses.fields(TranslationTokenizerSettings)}
    assert others.keys() == names - {"kind", "target_kind", "joint"}
    for name, value in others.items():
        given: dict[str, Any] = {"folder": "y"} if "huggingface" in (kind, target_kind) else {}
        settings = TranslationTokenizerSettings(
            kind=kind, target_kind=target_kind, joint=joint, **(given | {name: value})
        )
        if joint and (kind != target_kind or name == "target_vocab_size"):
            with pytest.raises(UserError, match=r"^tokenizer\.(target_)?\w+"):
                settings.check()
            continue
        readers = [target_kind] if name.startswith("target_") else [kind, target_kind]
        if any(name in READ_BY[one] or (name == "target_vocab_size" and one == "words") for one in readers):
            settings.check()
        else:
            with pytest.raises(
                UserError, match=f"^tokenizer.{name} is .* no effect where tokenizer.kind is .*leave it"
            ):
                settings.check()


@pytest.mark.parametrize(
    ("make", "fields", "named"),
    [
        (gpt, {"validation.samples": 0, "validation.prompt": "x"}, "validation.prompt"),
        (gpt, {"validation.samples": 0, "validation.sample_tokens": 3}, "validation.sample_tokens"),
        (gpt, {"validation.samples": 0, "validation.temperature": 0.5}, "validation.temperature"),
        (gpt, {"validation.samples": 0, "validation.top_k": 5}, "validation.top_k"),
        (gpt, {"validation.temperature": 0.0, "validation.top_k": 5}, "validation.top_k"),
        (gpt, {"training.update_tokens": 9, "training.accumulate": 2}, "training.accumulate"),
        (translation, {"test.beam": 1, "test.length_penalty": 1.0}, "test.length_penalty"),
        (translation, {"test.beam": 1, "test.penalty": "length"}, "test.penalty"),
        (translation, {"test.length_penalty": 0.0, "test.penalty": "length"}, "test.penalty"),
        (
            translation,
            {"validation.samples": 0, "validation.bleu_sentences": 0, "validation.beam": 3},
            "validation.beam",
        ),
        (translation, {"data.train.source_key": "x"}, "source_key"),
        (
            translation,
            {"data.train.tsv": None, "data.train.jsonl": "x", "data.train.source_column": 3},
            "source_column",
        ),
    ],
)
def test_other_fields_without_effect_are_refused(make: Any, fields: dict[str, Any], named: str, tmp_path: Path) -> None:
    recipe = make(tmp_path)
    for name, value in fields.items():
        recipe = having(recipe, name, value)
    with pytest.raises(UserError, match=f"{named} is .*has no effect.*leave it out"):
        recipe.validate()


def test_a_length_penalty_has_an_effect_where_validation_has_a_beam(tmp_path: Path) -> None:
    recipe = translation(tmp_path)
    for name, value in {"test.beam": 1, "validation.beam": 3, "test.length_penalty": 1.0}.items():
        recipe = having(recipe, name, value)
    recipe.validate()


@pytest.mark.parametrize(
    ("make", "section", "kind"), [(translation, "test", BeamSearch), (gpt, "validation", Sampling)]
)
def test_how_a_run_writes_is_declared_once_and_lent_to_its_recipe(
    make: Any, section: str, kind: Any, tmp_path: Path
) -> None:
    """So a new rule of decoding is in both recipes."""
    recipe = make(tmp_path)
    lent = {field.name for field in dataclasses.fields(kind)} - {"n_best", "max_length"}
    assert lent <= {field.name for field in dataclasses.fields(getattr(recipe, section))}
    having(recipe, f"{section}.no_repeat_ngram_size", 3).validate()
    with pytest.raises(UserError, match=rf"^{section}\.repetition_penalty is 0\.0, expected more than 0"):
        having(recipe, f"{section}.repetition_penalty", 0.0).validate()
