"""What becomes of config.json: each kind of text model that transformers has, and files that people published.

`python -m tests.zoo.records` writes records.json: "comes in", or why it is refused. A kind of transformers is read with
its default configuration. Text models are those with a head for the next word, for a target or for masked words. Models
that see or hear are apart. published.json has files that were found in public repositories, each with its source.
"""

import json
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING
from transformers.models.auto import modeling_auto

from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.common import other_kind
from transformer_zoo.zoo.huggingface.source import family_of

RECORDS, PUBLISHED = (Path(__file__).with_name(f"{name}.json") for name in ("records", "published"))
COMES_IN, UNKNOWN = "comes in", "there is no such family"

_TEXT = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "MASKED_LM")
_MORE = ("IMAGE_TEXT_TO_TEXT", "SPEECH_SEQ_2_SEQ", "MULTIMODAL_LM")


def kinds(*heads: str) -> set[str]:
    """The model_types that transformers has these heads for."""
    return set().union(*(getattr(modeling_auto, f"MODEL_FOR_{head}_MAPPING_NAMES") for head in heads))


def outcome(theirs: dict[str, Any]) -> str:
    """Whether the fields of a config.json are understood, or why not."""
    try:
        family_of(theirs, Path("config.json")).read(theirs)
    except UserError as refusal:
        return UNKNOWN if ": not one of " in str(refusal) else str(refusal).removeprefix("config.json: ")
    return COMES_IN


def default_fields(kind: str) -> dict[str, Any]:
    """config.json of a default configuration, as transformers writes it."""
    fields: dict[str, Any] = json.loads(CONFIG_MAPPING[kind]().to_json_string(use_diff=False))
    return fields


def records() -> dict[str, dict[str, str]]:
    """What becomes of text models, of those that see or hear, and of published files."""
    made: dict[str, dict[str, str]] = {"text": {}, "sees or hears": {}}
    for kind in sorted(kinds(*_TEXT) | kinds(*_MORE)):
        try:
            fields = default_fields(kind)
        except Exception:  # whatever it is, there is nothing to read
            made["text"][kind] = "transformers cannot make a default configuration of it"
            continue
        part = "sees or hears" if kind not in kinds(*_TEXT) or _sees_or_hears(fields) else "text"
        made[part][kind] = outcome(fields)
    files = json.loads(PUBLISHED.read_text("utf-8"))
    return {**made, "published": {name: outcome(file["fields"]) for name, file in files.items()}}


def _sees_or_hears(fields: dict[str, Any]) -> bool:
    why = other_kind(fields) or ""
    return "vision" in why or "sound" in why


if __name__ == "__main__":
    RECORDS.write_text(json.dumps(records(), indent=1, ensure_ascii=False) + "\n", "utf-8")
