"""A folder belongs to one run: what may change between two starts, and what is refused."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from transformer_zoo.errors import UserError
from transformer_zoo.runs.folder import check_run, differences, is_finished, mark_finished, open_run


def recipe(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"seed": 1, "device": "auto", "optimizer": {"lr": 0.1, "betas": [0.9, 0.98]}}
    plain["training"] = {"max_updates": 5, "max_epochs": None, "max_minutes": None}
    for name, value in changes.items():
        *sections, last = name.split("__")
        inner = plain
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return plain


def started(run_dir: Path, plain: dict[str, Any]) -> None:
    open_run(run_dir, plain, {}).close()
    (run_dir / "checkpoints").mkdir()
    (run_dir / "checkpoints" / "last.pt").touch()


def test_fields_that_differ_are_named_with_both_values() -> None:
    changed = recipe(optimizer__lr=0.2, seed=3, optimizer__eps=1e-8)
    assert differences(recipe(), changed, {}) == [
        "optimizer.eps was None, now 1e-08",
        "optimizer.lr was 0.1, now 0.2",
        "seed was 1, now 3",
    ]


def test_limits_device_and_tests_may_change() -> None:
    changed = recipe(training__max_updates=9, device="cpu", run_dir="x", data__tests__new={"tsv": "x"})
    changed["test"] = {"beam": 3}
    changed["validation"] = {"prompt": "x", "sample_tokens": 3, "temperature": 0.1, "top_k": 2, "samples": 5}
    changed["data"]["workers"] = 3
    assert differences(recipe(), changed, {}) == []
    assert differences(recipe(), recipe(testing=1), {}) == ["testing was None, now 1"]


def test_another_recipe_is_refused_once_something_was_trained(tmp_path: Path) -> None:
    open_run(tmp_path, recipe(), {}).close()
    check_run(tmp_path, recipe(seed=2), {})
    started(tmp_path, recipe())
    check_run(tmp_path, recipe(device="cpu"), {})
    with pytest.raises(UserError, match="seed was 1, now 2"):
        check_run(tmp_path, recipe(seed=2), {})
    with pytest.raises(UserError, match=r"field_04 was None, now 4; and 5 more\. Give another run_dir") as refused:
        check_run(tmp_path, recipe(**{f"field_{i:02}": i for i in range(10)}), {})
    assert "field_05" not in str(refused.value)
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match=r"config\.yaml is damaged"):
        check_run(tmp_path, recipe(), {})


def test_a_field_that_was_not_there_yet_was_as_it_is_by_default() -> None:
    defaults = {"optimizer": {"steps": 5}, "new": {"a": 1}}
    assert differences(recipe(), recipe(optimizer__steps=5, new__a=1), defaults) == []
    assert differences(recipe(), recipe(optimizer__steps=4), {"optimizer": {"steps": 5}}) == [
        "optimizer.steps was 5, now 4"
    ]


@pytest.mark.parametrize("held", ["model.safetensors", "results.json"])
def test_a_model_that_training_cannot_go_on_from_is_never_overwritten(tmp_path: Path, held: str) -> None:
    open_run(tmp_path, recipe(), {}).close()
    (tmp_path / held).write_text("[]")
    check_run(tmp_path, recipe(), {})
    refused = pytest.raises(UserError, match=r"holds a model, and no checkpoints/last\.pt to resume from")
    with warnings.catch_warnings(action="ignore"), refused:  # of results.json, which is damaged
        is_finished(tmp_path, recipe(), {})
    with pytest.raises(UserError, match="holds another run: seed was 1, now 2"):
        check_run(tmp_path, recipe(seed=2), {})
    mark_finished(tmp_path, recipe(), {}, {})
    assert is_finished(tmp_path, recipe(), {})
    (tmp_path / "config.yaml").write_text("null")
    with pytest.raises(UserError, match=r"config\.yaml is damaged, it has no fields"):
        check_run(tmp_path, recipe(), {})


def test_the_recipe_is_kept_as_yaml(tmp_path: Path) -> None:
    open_run(tmp_path / "deep" / "run", recipe(), {}).close()
    assert yaml.safe_load((tmp_path / "deep" / "run" / "config.yaml").read_text()) == recipe()


def test_checking_writes_nothing(tmp_path: Path) -> None:
    check_run(tmp_path / "deep" / "run", recipe(), {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="locks are posix's")
def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    with open_run(tmp_path, recipe(), {}), pytest.raises(UserError, match="another process"):
        open_run(tmp_path, recipe(), {})
    open_run(tmp_path, recipe(), {}).close()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="run_dir"):
        check_run(tmp_path / "file", recipe(), {})
    with pytest.raises(UserError, match="run_dir"):
        check_run(tmp_path / "file" / "run", recipe(), {})


@pytest.mark.parametrize(
    "changed",
    [
        {"training__max_updates": 6},
        {"test": {"beam": 3}},
        {"tests": {"data.tests.new": "checksum"}},
        {"checkpoint__final_weights": "best"},
    ],
)
def test_finished_means_finished_with_the_same_limits_weights_and_tests(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    started(tmp_path, recipe())
    assert not is_finished(tmp_path, recipe(), {})
    mark_finished(tmp_path, recipe(), {}, {"step": 5})
    assert is_finished(tmp_path, recipe(device="cpu"), {})
    tests = changed.pop("tests", {})
    assert not is_finished(tmp_path, recipe(**changed), tests)
    (tmp_path / "results.json").write_bytes((tmp_path / "results.json").read_bytes().replace(b"5", b"4", 1))
    with pytest.warns(UserWarning, match=r"results\.json is damaged.*it is made again"):
        assert not is_finished(tmp_path, recipe(), {})


def test_what_a_run_is_made_of_may_change_where_that_is_allowed_and_nothing_else(tmp_path: Path) -> None:
    started(tmp_path, recipe())
    changed = recipe(optimizer__lr=0.01, precision="float32", training__batch_tokens=3, schedule={"warmup": 7})
    with pytest.raises(UserError, match=r"optimizer\.lr was 0\.1, now 0\.01.*--allow_change true"):
        check_run(tmp_path, changed, {})
    check_run(tmp_path, {**changed, "allow_change": True}, {})
    for other in ({"seed": 2}, {"optimizer__name": "adam"}, {"tokenizer__vocab_size": 9}, {"model__d_model": 3}):
        with pytest.raises(UserError, match="holds another run") as refused:
            check_run(tmp_path, recipe(allow_change=True, **other), {})
        assert "--allow_change" not in str(refused.value)
    open_run(tmp_path / "new", {**changed, "allow_change": True}, {}).close()
    assert yaml.safe_load((tmp_path / "new" / "config.yaml").read_text()) == changed
