"""A run's folder: it is opened for a recipe, or refused because it holds another run."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

from transformer_zoo.checksums import read_fields, write_fields
from transformer_zoo.config import Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.files import check_folder, check_own, lock, make_folder, remove_leftovers
from transformer_zoo.runs.recipe import load_recipe, save_recipe
from transformer_zoo.training.checkpoint import Checkpoints, check_texts
from transformer_zoo.training.fields import flatten
from transformer_zoo.training.logging import FILES

# What may differ when a run is resumed: where it is, what it runs on, when it stops, what it shows, and how it is
# tested. The place of its texts may differ too, because they are known by their content (`check_texts`).
MAY_CHANGE = (
    "run_dir", "device", "compile", "cuda_graphs", "allow_change", "export", "logging", "parallel",
    "training.max_updates",
    "training.max_epochs", "training.max_minutes", "training.log_every", "validation.patience", "validation.samples",
    "validation.prompt", "validation.sample_tokens", "validation.write_special",
    *(f"validation.{field.name}" for field in fields(Sampling)), "checkpoint.final_weights",
    "data.train", "data.validation", "data.tests", "data.tokens", "data.workers", "test",
)  # fmt: skip
# What else may differ if `allow_change` says so.
ALLOWED = ("optimizer", "schedule", "training", "validation", "checkpoint", "precision")
# A field in a section that may change, but which chooses checkpoints: scores of other tokenizers do not compare.
MUST_STAY = ("test.bleu_tokenize",)
# What a finished run has settled: when to stop, which weights to end with, and how they are tested (and on which texts,
# by their content).
SETTLED = (
    "export", "training.max_updates", "training.max_epochs", "training.max_minutes", "validation.patience",
    "checkpoint.final_weights", "test",
)  # fmt: skip

_SHOWN = 5  # number of differences between two recipes: enough to recognise the other, few enough for a line


def differences(old: dict[str, Any], new: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    """Each field that must not change and has changed, in the form "field was x, now y".

    A field that `old` does not have, because it did not exist then, had the value in `defaults`.
    """
    before, now = flatten(_fill(old, defaults)), flatten(new)
    return [
        f"{name} was {before.get(name)}, now {now.get(name)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
        and (name in MUST_STAY or not is_in(name, MAY_CHANGE))
        and not (new.get("allow_change") and is_in(name, ALLOWED) and name != "optimizer.name")
    ]


def _fill(fields: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    filled = {**defaults, **fields}
    for name, inner in defaults.items():
        if isinstance(inner, dict) and isinstance(filled[name], dict):
            filled[name] = _fill(filled[name], inner)
    return filled


def is_in(name: str, sections: Sequence[str]) -> bool:
    """Whether a field is one of `sections`, or inside one."""
    return any(name == section or name.startswith(section + ".") for section in sections)


def check_run(run_dir: Path, plain: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Check, without writing, that a run of the recipe `plain` may start or resume in the folder.

    Args:
        run_dir: The folder, which may be missing.
        plain: All fields of the recipe.
        defaults: The values in a recipe of this kind of fields that it does not give.

    Raises:
        UserError: the folder cannot be used, or holds a run that differs in a field that must not change.
    """
    check_folder("run_dir", run_dir)
    if not (Checkpoints(run_dir).exist or _holds_a_model(run_dir)):
        return  # nothing has been trained yet
    old = load_recipe(run_dir / "config.yaml")
    if changed := differences(old, plain, defaults):
        can_be = not differences(old, {**plain, "allow_change": True}, defaults)
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise UserError(
            f"{run_dir} holds another run: {'; '.join(changed[:_SHOWN])}{more}. Give another run_dir, or remove it"
            f"{'; or resume with the change: --allow_change true' if can_be else ''}"
        )


def open_run(run_dir: Path, plain: dict[str, Any], texts: dict[str, str]) -> IO[bytes]:
    """Make the folder, lock it until the result is closed or the process ends, and write config.yaml.

    `texts` are the checksums of the run's texts, by the names of their fields.

    Raises:
        UserError: the folder cannot be written, another process trains in it, or it was trained on other texts.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        held = lock(run_dir / ".lock", wait=False)
    except BlockingIOError:
        raise UserError(f"run_dir: another process is training in {run_dir}") from None
    except OSError as error:
        raise UserError(f"run_dir: {run_dir} cannot be written ({error.strerror})") from None
    try:
        remove_leftovers(run_dir)
        for name in ("checkpoints", "tensorboard", "test", "tokenizer", "tokens"):
            if os.path.lexists(run_dir / name):
                remove_leftovers(make_folder(run_dir, name))
        for name in FILES:
            check_own(run_dir / name)
        if found := Checkpoints(run_dir).load():
            check_texts(found[0].data, texts, run_dir)
        save_recipe(run_dir / "config.yaml", {name: value for name, value in plain.items() if name != "allow_change"})
    except BaseException:
        held.close()
        raise
    return held


def mark_finished(run_dir: Path, plain: dict[str, Any], texts: dict[str, str], results: dict[str, Any]) -> None:
    """Write results.json, the sign that everything in the recipe is done; `texts` as for `open_run`."""
    write_fields(run_dir / "results.json", {**results, "settled": settled(plain), "texts": texts})


def is_finished(run_dir: Path, plain: dict[str, Any], tests: dict[str, str]) -> bool:
    """Whether `mark_finished` was called for this recipe's limits, final weights and tests.

    `tests` are the checksums of their texts, by the names of their fields.

    Raises:
        UserError: it was not, and the folder holds a model without a state from which training could resume.
    """
    found = read_results(run_dir)
    if found is not None and found.get("settled") == settled(plain):
        texts = trained_on(found)
        if {name: texts[name] for name in texts if name.startswith("data.tests.")} == tests:
            return True
    if _holds_a_model(run_dir) and not Checkpoints(run_dir).exist:
        raise UserError(
            f"{run_dir} holds a model, and no checkpoints/last.pt to resume from. Give another run_dir, or remove it"
        )
    return False


def trained_on(results: dict[str, Any] | None) -> dict[str, str]:
    """The checksums of a finished run's texts in its results.json, by the names of their fields."""
    texts = (results or {}).get("texts")
    return texts if isinstance(texts, dict) else {}


def _holds_a_model(run_dir: Path) -> bool:
    return (run_dir / "model.safetensors").exists() or (run_dir / "results.json").exists()


def read_results(run_dir: Path) -> dict[str, Any] | None:
    """The content of results.json; None if it is missing or damaged, because it can be made again."""
    try:
        return read_fields(run_dir / "results.json", remedy="it is made again")
    except UserError as error:
        warnings.warn(str(error), stacklevel=2)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None


def settled(plain: dict[str, Any]) -> dict[str, Any]:
    """The fields that say when training stops and what comes after it."""
    return {name: value for name, value in flatten(plain).items() if is_in(name, SETTLED)}
