"""Names of weights are a contract with files on people's disks: ours and theirs are committed, family by family."""

import json
from pathlib import Path

import pytest
import torch

from tests.zoo.huggingface.models import TEXT_CASES, TRANSLATION_CASES, make
from tests.zoo.huggingface.test_encoders import CASES, HEADS
from tests.zoo.huggingface.test_encoders import make as make_encoder
from transformer_zoo.config.changes import value_at
from transformer_zoo.zoo import build_empty
from transformer_zoo.zoo.families import FAMILIES

COMMITTED: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("weight_names.json").read_text("utf-8"))
"""For each family: ours -> theirs, for weights outside the layers and in layer 1."""


def names_by_family() -> dict[str, dict[str, str]]:
    """What the tables make of all cases together."""
    found: dict[str, dict[str, str]] = {}
    models = [make(case) for case in (*TEXT_CASES, *TRANSLATION_CASES)]
    models += [make_encoder(case, head) for case in CASES for head in HEADS]
    for theirs in (model.config for model in models):
        family = FAMILIES[theirs.model_type]
        config = family.read(json.loads(json.dumps(theirs.to_dict())))
        others = [of for of in family.weights_where if value_at(config, of[0]) == of[1]]
        kind = ", ".join([family.model_type, *("gated" if value is True else value for _, value in others)])
        names = found.setdefault(kind, {})
        for name in build_empty(config, dtype=torch.float32).state_dict():
            if ".layers." not in name or ".layers.1." in name:
                names[name] = family.weight(name, config)[0]
    return found


@pytest.fixture(scope="module")
def names() -> dict[str, dict[str, str]]:
    return names_by_family()


@pytest.mark.parametrize("family", COMMITTED)
def test_names_are_those_that_are_committed(family: str, names: dict[str, dict[str, str]]) -> None:
    assert names[family] == COMMITTED[family]


def test_every_family_is_committed(names: dict[str, dict[str, str]]) -> None:
    other = {"falcon, parallel", "t5, gated", "mt5, gated", "umt5, gated"}
    assert names.keys() == COMMITTED.keys() == {*FAMILIES, *other}


if __name__ == "__main__":
    text = json.dumps(names_by_family(), indent=1, ensure_ascii=False)
    Path(__file__).with_name("weight_names.json").write_text(text + "\n", "utf-8")
