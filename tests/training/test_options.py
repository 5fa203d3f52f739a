"""YAML and command line: typed, explained, and refused in one line."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from tests.having import having
from transformer_zoo.checksums import UncheckedWarning
from transformer_zoo.commandline import parse_recipe
from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig, RotarySpec, YarnSpec
from transformer_zoo.config.changes import short_names
from transformer_zoo.data import ParallelFiles
from transformer_zoo.errors import UserError
from transformer_zoo.runs.recipe import load_recipe
from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.fields import defaults_of, plain_fields
from transformer_zoo.training.overrides import overridden, overrides_of
from transformer_zoo.training.tasks.translation_recipe import DataConfig, TranslationRecipe
from transformer_zoo.zoo import get_config


def parse(*words: str) -> tuple[RunConfig, dict[str, Any]]:
    recipe = parse_recipe(RunConfig, words)
    return recipe, plain_fields(recipe)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "run.yaml"
    path.write_text("run_dir: runs/x\noptimizer: {lr: 1e-3, betas: [0.8, 0.9]}\ntraining: {max_epochs: 3}\n")
    return str(path)


def test_the_command_line_wins_over_the_file_and_the_file_over_defaults(file: str) -> None:
    recipe, plain = parse(file, "--optimizer.lr", "5e-4", "--training.max_minutes=2")
    assert (recipe.optimizer.lr, recipe.optimizer.betas, recipe.optimizer.eps) == (5e-4, (0.8, 0.9), 1e-9)
    assert (recipe.training.max_epochs, recipe.training.max_minutes) == (3, 2.0)
    assert plain["optimizer"]["lr"] == 5e-4
    assert "config" not in plain


def test_what_is_saved_can_be_run_again(file: str, tmp_path: Path) -> None:
    recipe, plain = parse(file, "--seed", "9")
    again = tmp_path / "config.yaml"
    again.write_text(yaml.safe_dump(plain))
    assert parse(str(again)) == (recipe, plain)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--optimizer.lrr", "1"], "did you mean optimizer.lr?"),
        (["--optmizer.lr", "1"], "did you mean optimizer.lr?"),
        (["--optimizer.lr", "fast"], "optimizer.lr"),
        (["--seed", "1.5"], "seed"),
        (["--schedule.name", "linaer"], "schedule.name"),
        (["--zebra", "1"], "zebra"),
        (["--optimizer.l", "1"], "optimizer.l"),
        (["more.yaml"], "more.yaml"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(
    words: list[str], named: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(file, *words)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert named in error


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("run_dir: x\noptimizer: {learning_rate: 1}\n", "learning_rate"),
        ("run_dir: x\noptimizr: {lr: 1}\n", "optimizr"),
        ("run_dir: x\ntraining: {max_updates: many}\n", "training.max_updates"),
        ("seed: 1\n", "run_dir"),
        ("run_dir: x\noptimizer:\n", "optimizer is empty: give its fields below it, or leave it out"),
        ("run_dir: x\noptimizer: [1]\n", "optimizer"),
        ("run_dir: x\ntraining: {max_updates: }\n", "training.max_updates is empty: give it a value"),
        ("run_dir: x\nseed:\n", "seed is empty"),
        ("run_dir: no\n", "write it in quotes"),
        ("run_dir: x\noptimizer:\n  lr: 1.0\n  lr: 2.0\n", "run.yaml:4: lr is there a second time"),
        ("run_dir: x\nseed: 1\nrun_dir: y\n", "run.yaml:3: run_dir is there a second time"),
        ("run_dir: [\n", "error"),
        ("- a\n", "error"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_field(
    text: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit) as exit_:
        parse(str(path))
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert named in error


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    for message in (f"{path}: No such file or directory; give the path of a recipe", f"{path}: not UTF-8"):
        with pytest.raises(SystemExit):
            parse(str(path))
        assert capsys.readouterr().err.startswith(f"error: {message}")
        path.write_text("run_dir: x\n", "utf-16")


@pytest.mark.parametrize("value", ["x", "antigravity.fly", "{class_path: antigravity.fly}"])
def test_a_test_set_without_its_fields_is_named_and_nothing_imported(
    value: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_recipe(TranslationRecipe, [file, "--data.tests", f"{{flickr: {value}}}"])
    assert capsys.readouterr().err.startswith("error: data.tests.flickr")
    assert "antigravity" not in sys.modules


def translation_recipe() -> Any:
    """A recipe whose sections can be changed."""
    files = ParallelFiles(source="a.en", target="a.de")
    return TranslationRecipe(
        run_dir="x", data=DataConfig(source_lang="en", target_lang="de", train=files, validation=files)
    )


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("training", "batch_tokens", 0),
        ("training", "accumulate", 0),
        ("training", "label_smoothing", 1.0),
        ("training", "max_minutes", -1.0),
        ("optimizer", "lr", float("nan")),
        ("optimizer", "betas", (-0.1, 0.9)),
        ("optimizer", "betas", (0.9, 1.0)),
        ("optimizer", "betas", (float("nan"), 0.9)),
        ("schedule", "warmup", -1),
        ("checkpoint", "every", 0),
        ("validation", "beam", 0),
        ("optimizer", "momentum", 1.0),
        ("training", "max_minutes", 0.0),
    ],
)
def test_values_out_of_range_are_named(section: str, field: str, value: object) -> None:
    config = translation_recipe()
    config.validate()
    config = having(config, f"{section}.{field}", value)
    with pytest.raises(UserError, match=f"{section}.{field}"):
        config.validate()


def test_fields_that_do_not_go_together_are_refused() -> None:
    config: RunConfig = translation_recipe()
    config = having(config, "validation.best_by", "bleu")
    config = having(config, "validation.bleu_sentences", 0)
    with pytest.raises(UserError, match="nothing to choose by"):
        config.validate()
    for shared in ("all", "inputs"):
        two = translation_recipe()
        two.tokenizer.joint, two.model.share_embeddings = False, shared
        with pytest.raises(UserError, match=f"model.share_embeddings is {shared}"):
            two.validate()
    with pytest.raises(UserError, match="seed is 9223372036854775808"):
        RunConfig(run_dir="x", seed=2**63).validate()
    with pytest.raises(UserError, match="run_dir is empty"):
        RunConfig(run_dir="").validate()
    config = RunConfig(run_dir="x")
    config = having(config, "schedule.name", "wsd")
    config = having(config, "schedule.decay", 11)
    config = having(config, "training.max_updates", 10)
    with pytest.raises(UserError, match=r"schedule\.decay is 11, more than training\.max_updates, 10"):
        config.validate()


def test_a_home_folder_is_meant_by_its_sign(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunConfig(run_dir="~/runs/x").run_dir == str(tmp_path / "runs" / "x")


def test_defaults_are_those_of_a_recipe_that_gives_nothing_else(file: str) -> None:
    _, plain = parse(file)
    found = defaults_of(RunConfig)
    assert set(found) == set(plain) - {"run_dir"}
    assert found["checkpoint"] == plain["checkpoint"]


def test_a_models_overrides_are_its_configs_fields_and_change_nothing_by_default() -> None:
    made = overrides_of(EncoderDecoderConfig, preset="transformer-base", skip=("vocab_size",))
    names = {f.name for f in dataclasses.fields(EncoderDecoderConfig)} - {"vocab_size"}
    assert {f.name for f in dataclasses.fields(made)} == {
        "preset",
        "init_from",
        *names,
        *short_names(EncoderDecoderConfig),
    }
    assert (made().preset, made().init_from, made().d_model, made().decoder.norm.eps) == (
        "transformer-base",
        None,
        "preset",
        "preset",
    )
    assert overridden(made()) == {}
    for name in names:
        assert f"    {name}: " in made.__doc__


def test_what_is_inside_of_a_part_has_its_address(file: str) -> None:
    words = [
        "--positions",
        "rotary",
        "--decoder.positions.scaling.kind",
        "yarn",
        "--decoder.positions.scaling.factor",
        "3",
    ]
    made = parse_recipe(overrides_of(DecoderConfig), words)
    assert overridden(made) == {
        "positions": "rotary",
        "decoder.positions.scaling.kind": "yarn",
        "decoder.positions.scaling.factor": 3,
    }
    assert get_config("gpt2", **overridden(made)).decoder.positions == RotarySpec(scaling=YarnSpec(factor=3))


def test_null_takes_away_what_the_preset_has(file: str) -> None:
    made = parse_recipe(overrides_of(DecoderConfig), ["--logit_softcap", "null", "--max_seq_len", "64"])
    assert overridden(made) == {"logit_softcap": None, "max_seq_len": 64}
    assert get_config("gemma-2-2b", **overridden(made)).logit_softcap is None


def said_of_options(text: str) -> dict[str, str]:
    """Option -> what --help says about it, for all that take a value of their own."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n  (?=--)|\n\n", text)]
    pattern = re.compile(r"--(?P<name>[\w.]+) (?:[A-Z]+|true\|false) (?P<said>.*)")
    return {found["name"]: found["said"] for part in paragraphs if (found := pattern.match(part))}


def leaves(config: type, prefix: str = "") -> list[str]:
    """Names of all fields, those of sections included."""
    names = []
    for name, kind in get_type_hints(config).items():
        inside = dataclasses.is_dataclass(kind)
        names += leaves(kind, f"{prefix}{name}.") if inside else [prefix + name]
    return names


def test_help_explains_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse_recipe(TranslationRecipe, ["--help"])
    assert exit_.value.code == 0
    said = said_of_options(capsys.readouterr().out)
    assert set(said) - {"config", "print_config"} == set(leaves(TranslationRecipe))
    assert [name for name, words in said.items() if len(words.split()) < 4] == []


def test_a_runs_recipe_may_have_aliases_but_not_explode(tmp_path: Path) -> None:
    """Nine levels of nine would be more than memory holds."""
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    (tmp_path / "config.yaml").write_text("\n".join(["a0: &a0 [x]", *levels]))
    with pytest.warns(UncheckedWarning), pytest.raises(UserError, match=r"config\.yaml is damaged \(its aliases"):
        load_recipe(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("seed: &a {x: 1}\nother: *a\n")
    with pytest.warns(UncheckedWarning):
        assert load_recipe(tmp_path / "config.yaml") == {"seed": {"x": 1}, "other": {"x": 1}}
