"""What is on record of config.json is what becomes of it."""

import json
import re
from typing import Any

import pytest

from tests.zoo.records import COMES_IN, PUBLISHED, RECORDS, UNKNOWN, records
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families import FAMILIES
from transformer_zoo.zoo.huggingface.common import other_kind

HELD: dict[str, dict[str, str]] = json.loads(RECORDS.read_text("utf-8"))


def test_the_records_are_true() -> None:
    assert records() == HELD, "python -m tests.zoo.records writes what is true now"


def test_every_family_comes_in() -> None:
    refused = {kind for kind in FAMILIES if HELD["text"][kind] != COMES_IN}
    assert refused == {"deepseek_v3"}  # whose default has experts


def test_of_what_sees_or_hears_nearly_all_is_told_why() -> None:
    told = [why for why in HELD["sees or hears"].values() if why != UNKNOWN]
    assert len(told) > 0.9 * len(HELD["sees or hears"])
    assert all(re.search("vision tower|sound front end", why) for why in told)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("llava", "vision tower"), ("qwen2_vl", "vision tower"), ("whisper", "sound"), ("speech_to_text", "sound"),
        ("mamba", "state space"), ("jamba", "state space"), ("rwkv", "delta rule"), ("qwen3_next", "delta rule"),
    ],
)  # fmt: skip
def test_another_kind_of_model_is_told_why_in_one_sentence(kind: str, why: str) -> None:
    said = {**HELD["text"], **HELD["sees or hears"]}[kind]
    assert why in said
    assert said.startswith(f"model_type is '{kind}': ")
    assert why in str(other_kind({"model_type": kind})) or kind in ("qwen2_vl", "qwen3_next")  # their fields tell


def test_published_files_say_where_they_were_found() -> None:
    files: dict[str, Any] = json.loads(PUBLISHED.read_text("utf-8"))
    assert len(files) >= 30
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+: \S+", file["source"]) for file in files.values())


def test_code_of_its_own_is_not_needed_where_transformers_has_the_class() -> None:
    native = {
        "AutoConfig": "configuration_llama.LlamaConfig",
        "AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM",
    }
    assert FAMILIES["llama"].read({"auto_map": native}) == FAMILIES["llama"].read({})
    for other in ({"AutoModelForCausalLM": "modeling_mine.MyForCausalLM"}, {"AutoModel": "a.LlamaModel"}, ["x"]):
        with pytest.raises(UserError, match="auto_map: the model comes with code of its own"):
            FAMILIES["llama"].read({"auto_map": other})
