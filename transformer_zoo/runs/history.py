"""What a run wrote: metrics by update and samples during training, and its results."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformer_zoo.checksums import read_fields
from transformer_zoo.config import ModelConfig
from transformer_zoo.errors import UserError
from transformer_zoo.files import read_bytes
from transformer_zoo.runs.model_json import read_model_json
from transformer_zoo.runs.recipe import load_recipe

_UPDATE = re.compile(r"^== update (\d+)\n", re.M)


@dataclass(frozen=True)
class Record:
    """What a run's folder says about it. Its weights may be missing.

    Args:
        folder: Folder of the run.
        recipe: Content of config.yaml.
        config: Configuration of the model; None: it does not exist yet.
        results: Content of results.json; None: training has not ended.
        metrics, samples: As `read_metrics` and `read_samples` return them.
    """

    folder: Path
    recipe: dict[str, Any]
    config: ModelConfig | None
    results: dict[str, Any] | None
    metrics: list[dict[str, Any]]
    samples: list[tuple[int, str]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The metrics of one kind."""
        return [row for row in self.metrics if row["kind"] == kind]


def read_record(folder: Path) -> Record:
    """Read all of it.

    Raises:
        UserError: there is no such folder, it is not a run, or a file is damaged.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} has no config.yaml: it is not a run")
    config = read_model_json(folder).config if (folder / "model.json").exists() else None
    results = read_fields(folder / "results.json") if (folder / "results.json").exists() else None
    recipe = load_recipe(folder / "config.yaml")
    return Record(folder, recipe, config, results, read_metrics(folder), read_samples(folder))


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, in order: `kind` ("train" or "valid"), `step`, and metrics; empty if there is no
    file.

    A last line without an end is being written, or its writer was killed. It is left out.

    Raises:
        UserError: a line is damaged.
    """
    path, found = run_dir / "metrics.jsonl", []
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not (isinstance(record, dict) and isinstance(record.get("kind"), str) and _is_count(record.get("step"))):
            raise UserError(f"{path}:{number} is damaged, it is not a record: put the file back from a copy")
        found.append(record)
    return found


def read_samples(run_dir: Path) -> list[tuple[int, str]]:
    """Update and text of each entry of samples.txt, in order; empty if there is no file.

    Raises:
        UserError: the file does not begin with an update.
    """
    path = run_dir / "samples.txt"
    text = "".join(f"{line}\n" for line in _whole_lines(path))
    start, *rest = _UPDATE.split(text)
    if start:
        raise UserError(f"{path} is damaged, it does not begin with an update: put it back from a copy")
    return [(int(update), text) for update, text in zip(rest[::2], rest[1::2], strict=True)]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _whole_lines(path: Path) -> list[str]:
    """The lines of a growing file, without a last one that has no end yet; none if there is no file."""
    try:
        return read_bytes(path).decode("utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise UserError(f"{path} is damaged, it is not UTF-8: put it back from a copy") from None
