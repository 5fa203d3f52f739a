"""Every preset's number of parameters, against a committed table.

Those of BLOOM are in Table 3 of its paper, those of Pythia in Table 1 of its own, to the last digit.
"""

import json
from pathlib import Path

import pytest
import torch

import transformer_zoo as tz
from transformer_zoo.zoo import presets

COUNTS: dict[str, int] = json.loads(Path(__file__).with_name("parameter_counts.json").read_text())


def test_every_preset_has_a_committed_count() -> None:
    assert list(COUNTS) == tz.list_models()


def test_no_name_is_given_twice() -> None:
    families = [vars(presets)[path.stem] for path in Path(presets.__file__).parent.glob("[!_]*.py")]
    assert len(presets.PRESETS) == sum(len(family.PRESETS) for family in families)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name: str) -> None:
    with torch.device("meta"):
        model = tz.create_model(name)
    assert sum(weight.numel() for weight in model.parameters()) == COUNTS[name]
