"""Puts a finished run on the Hugging Face hub, with a card that describes it, and fetches runs by their names there."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.runs.folder import read_results
from transformer_zoo.runs.model_json import read_model_json
from transformer_zoo.runs.recipe import load_recipe, save_recipe
from transformer_zoo.zoo.huggingface.hub import asked, no_folder

# The files by which a run is used and described; not its checkpoints, its curves and its texts.
_FILES = ("model.json", "config.yaml", "model.safetensors", "tokenizer/*", "results.json")
_TASKS = {
    "words": "fill-mask", "texts": "text-classification", "tokens": "token-classification", "none": "feature-extraction"
}  # fmt: skip
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def push_run(run_dir: Path, name: str, *, private: bool = False) -> str:
    """Put a finished run on the hub in one commit; returns its address. Absolute paths are cut to their file names.

    Args:
        run_dir: Folder of the run.
        name: Name on the hub, such as "user/name"; it is created if it does not exist.
        private: Whether a created one is visible to its owner only.

    Raises:
        UserError: the name is not valid, or the hub refuses it.
    """
    from huggingface_hub import CommitOperationAdd, HfApi  # which takes long to load

    if not _NAME.fullmatch(name):
        raise UserError(f"{name}: not a name on the hub, such as user/name")
    paths = sorted(path for pattern in _FILES for path in run_dir.glob(pattern))
    contents: dict[str, Any] = {path.relative_to(run_dir).as_posix(): path for path in paths}
    recipe, config = _without_folders(load_recipe(run_dir / "config.yaml")), read_model_json(run_dir).config
    with TemporaryDirectory() as folder:
        save_recipe(Path(folder, "config.yaml"), recipe)
        contents["config.yaml"] = Path(folder, "config.yaml").read_bytes()
    contents["README.md"] = model_card(name, config, recipe, read_results(run_dir) or {}).encode()
    files = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in contents.items()]
    hub = HfApi(library_name="transformer_zoo")
    with asked(name, f"{name}: the hub does not take it"):
        place = hub.create_repo(name, private=private, exist_ok=True)
        hub.create_commit(name, files, commit_message="Upload a run of transformer_zoo")
    return str(place)


def is_name(name: str) -> bool:
    """Whether it can be the name of something on the hub, because nothing lies there on this machine."""
    is_here = name.startswith("runs/") or Path(name).parent.exists()
    return _NAME.fullmatch(name) is not None and not is_here


def fetched_run(name: str) -> Path | None:
    """The folder of a run that the hub has under this name, fetched once; None: it is a model and not a run.

    Raises:
        UserError: the hub has nothing of that name, or cannot be reached.
    """
    from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with asked(name, f"{no_folder(name)}, and the hub does not give it"):
        try:
            hf_hub_download(name, "model.json")  # before the weights, which may be large
        except LocalEntryNotFoundError:  # the hub was not reached
            if isinstance(try_to_load_from_cache(name, "config.json"), str):
                return None
            raise
        except EntryNotFoundError:
            return None
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))


def _without_folders(value: Any) -> Any:
    """The fields, with only the file name of each absolute path: its folder does not concern others."""
    if isinstance(value, dict):
        return {name: _without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    is_path = isinstance(value, str) and Path(value).is_absolute() and len(Path(value).parts) > 2
    return Path(value).name if is_path else value


def model_card(
    name: str,
    config: EncoderDecoderConfig | DecoderConfig | EncoderConfig,
    recipe: dict[str, Any],
    results: dict[str, Any],
) -> str:
    """README.md of a run: what it is, how it is used, scores with signatures, checksums of data, leaks, and the
    recipe."""
    data = recipe.get("data") or {}
    languages = [code for side in ("source_lang", "target_lang") if (code := data.get(side))]
    about: dict[str, Any] = {"library_name": "transformer_zoo", "pipeline_tag": _task(config)}
    if languages:
        about["language"] = sorted({code.split("_")[0] for code in languages})
    parts = [
        f"---\n{yaml.safe_dump(about, sort_keys=False)}---\n\n# {name}",
        "A run of transformer_zoo. "
        f'`tz.load_run("{name}")` gives model and tokenizer, and translate, generate, chat, score, evaluate, embed, '
        "classify and export of `transformer-zoo` take the name instead of a run's folder.",
        *_section("Scores", _scores(results)),
        *_section("Texts", (f"- `{field}`: checksum `{sum_}`" for field, sum_ in results.get("texts", {}).items())),
        *_section("Leaks into the training text", _leaks(results)),
        "## Recipe\n\n```yaml\n" + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True) + "```",
    ]
    return "\n\n".join(parts) + "\n"


def _task(config: EncoderDecoderConfig | DecoderConfig | EncoderConfig) -> str:
    """The hub's name for the task of such a run."""
    if isinstance(config, EncoderConfig):
        return _TASKS["none" if config.head is None else config.head.kind()]
    return "translation" if isinstance(config, EncoderDecoderConfig) else "text-generation"


def _section(title: str, lines: Iterator[str]) -> list[str]:
    found = list(lines)
    return [f"## {title}\n\n" + "\n".join(found)] if found else []


def _scores(results: dict[str, Any]) -> Iterator[str]:
    for metric, value in results.get("validation", {}).items():
        yield f"- validation: {metric} {value:.4g}"
    for test, found in results.get("tests", {}).items():
        for metric, signature in found.get("signatures", {}).items():
            yield f"- {test}: {metric} {found[metric]:.2f}, `{signature}`"


def _leaks(results: dict[str, Any]) -> Iterator[str]:
    for text, found in results.get("leaks", {}).items():
        for kind in ("exact", "near"):
            counts = ", ".join(f"{count:,} {what}" for what, count in found[kind].items())
            yield f"- {text}, of {found['of']:,} pairs, {kind}: {counts}"
