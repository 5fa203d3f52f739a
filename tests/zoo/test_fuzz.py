"""A short run of the fuzzer, and what it says of a model that is not the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.zoo import fuzz
from tests.zoo.drawing import RANGES, drawn_fields
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families import FAMILIES


@pytest.mark.parametrize("kind", ["gpt_neo", "llama", "t5", "marian", "electra"])
def test_a_few_of_some_families(kind: str) -> None:
    assert fuzz.fuzz(kind, 3, seed=7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_twenty_of_each(kind: str) -> None:
    assert fuzz.fuzz(kind, 20, seed=11)


@pytest.mark.parametrize(("message", "kind"), [("rope_type is 'x'", "refused"), ("vocab_size is 3", "differs")])
def test_a_refusal_names_a_field_that_has_limits(
    message: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise UserError(f"config.json: {message}")

    monkeypatch.setattr(fuzz, "imported", refuse)
    theirs = fuzz.their_model("llama", {"vocab_size": 97, "hidden_size": 8, "num_attention_heads": 2})
    assert fuzz.compare("llama", theirs, tmp_path).kind == kind


def test_other_logits_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    right = fuzz.imported

    def wrong(*given: Any) -> Any:
        model = right(*given)
        with torch.no_grad():
            model.decoder.layers[-1].ffn.down_proj.weight[0, 0] += 0.5
        return model

    monkeypatch.setattr(fuzz, "imported", wrong)
    assert fuzz.main(["llama", "--n", "1"]) == 1
    assert "1 differs" in capsys.readouterr().out


def test_every_range_has_a_field() -> None:
    names = {name for kind in FAMILIES for name in drawn_fields(kind)}
    known = {"hidden_size", "num_attention_heads", "num_hidden_layers", "head_dim", "max_position_embeddings"}
    assert set(RANGES) - names <= known
