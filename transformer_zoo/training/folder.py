"""A run's folder: opened for a recipe, or refused because it holds another one."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from transformer_zoo.errors import UserError
from transformer_zoo.files import lock, write_json
from transformer_zoo.training.options import save_recipe

# What may differ when a run goes on: where it is and what it runs on, when it stops, what it shows, how it is
# tested.
MAY_CHANGE = (
    "run_dir", "device", "compile", "allow_change", "training.max_updates", "training.max_epochs",
    "training.max_minutes", "training.log_every", "validation.patience", "validation.samples", "validation.prompt",
    "validation.sample_tokens", "validation.temperature", "validation.top_k", "checkpoint.final_weights",
    "data.tests", "data.workers", "test",
)  # fmt: skip
# What else may, where `allow_change` says so.
ALLOWED = ("optimizer", "schedule", "training", "validation", "checkpoint", "precision")
# What a finished run has settled: when to stop, which weights to end with, and how they are tested.
SETTLED = (
    "training.max_updates", "training.max_epochs", "training.max_minutes", "validation.patience",
    "checkpoint.final_weights", "data.tests", "test",
)  # fmt: skip

_SHOWN = 5  # differences between two recipes: enough to know the other by, few enough for a line


def flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}, without what is None."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        elif value is not None:
            flat[prefix + name] = value
    return flat


def differences(old: dict[str, Any], new: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    """Each field that must not change and did, as "field was x, now y".

    A field that `old` does not have at all, since there was none then, was as `defaults` has it.
    """
    before, now = flatten(_fill(old, defaults)), flatten(new)
    return [
        f"{name} was {before.get(name)}, now {now.get(name)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
        and not is_in(name, MAY_CHANGE)
        and not (new.get("allow_change") and is_in(name, ALLOWED) and name != "optimizer.name")
    ]


def _fill(fields: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    filled = {**defaults, **fields}
    for name, inner in defaults.items():
        if isinstance(inner, dict) and isinstance(filled[name], dict):
            filled[name] = _fill(filled[name], inner)
    return filled


def is_in(name: str, sections: Sequence[str]) -> bool:
    """Whether a field is one of `sections` or inside one."""
    return any(name == section or name.startswith(section + ".") for section in sections)


def check_run(run_dir: Path, plain: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Checks, without writing, that a run of the recipe `plain` may start or go on in the folder.

    Args:
        run_dir: The folder, which need not be there.
        plain: All fields of the recipe.
        defaults: Those that a recipe of this kind has where it does not give them.

    Raises:
        UserError: the folder cannot be used, or holds a run that differs in a field that must not change, or a model
            without what training could go on from.
    """
    there = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"run_dir: {run_dir} cannot be written ({there} is no folder, or not yours)")
    can_go_on = (run_dir / "checkpoints" / "last.pt").exists()
    if not (can_go_on or (run_dir / "model.safetensors").exists() or (run_dir / "results.json").exists()):
        return  # nothing has been trained yet
    path = run_dir / "config.yaml"
    try:
        old = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        old = None
    if not isinstance(old, dict):
        raise UserError(f"{path} cannot be read; put it back, or give another run_dir")
    if changed := differences(old, plain, defaults):
        can_be = not differences(old, {**plain, "allow_change": True}, defaults)
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise UserError(
            f"{run_dir} holds another run: {'; '.join(changed[:_SHOWN])}{more}. Give another run_dir, or remove it"
            f"{'; or go on with the change: --allow_change true' if can_be else ''}"
        )
    if not can_go_on and not is_finished(run_dir, plain):
        raise UserError(
            f"{run_dir} holds a model, and no checkpoints/last.pt to go on from. Give another run_dir, or remove it"
        )


def open_run(run_dir: Path, plain: dict[str, Any]) -> IO[bytes]:
    """Makes the folder, locks it until the result is closed or the process ends, and writes config.yaml.

    Raises:
        UserError: the folder cannot be written, or another process trains in it.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        held = lock(run_dir / ".lock", wait=False)
    except BlockingIOError:
        raise UserError(f"run_dir: another process is training in {run_dir}") from None
    except OSError as error:
        raise UserError(f"run_dir: {run_dir} cannot be written ({error.strerror})") from None
    save_recipe(run_dir / "config.yaml", {name: value for name, value in plain.items() if name != "allow_change"})
    return held


def mark_finished(run_dir: Path, plain: dict[str, Any], results: dict[str, Any]) -> None:
    """Writes results.json, the sign that all that the recipe asks for has been done."""
    write_json(run_dir / "results.json", {**results, "settled": settled(plain)})


def is_finished(run_dir: Path, plain: dict[str, Any]) -> bool:
    """Whether `mark_finished` was called for this recipe's limits, final weights and tests."""
    try:
        results = json.loads((run_dir / "results.json").read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return isinstance(results, dict) and bool(results.get("settled") == settled(plain))


def settled(plain: dict[str, Any]) -> dict[str, Any]:
    """The fields that say when training stops and what comes after it."""
    return {name: value for name, value in flatten(plain).items() if is_in(name, SETTLED)}
