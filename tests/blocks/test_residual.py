"""The residual connection: where the norm and the dropout go."""

import pytest
import torch
from torch import Tensor

from transformer_zoo.blocks import add_residual


def trace(norm_position: str) -> tuple[list[str], Tensor]:
    """What is called in which order, and the result for x = 1."""
    calls: list[str] = []

    def step(name: str, factor: float, shift: float = 0.0) -> object:
        def call(x: Tensor) -> Tensor:
            calls.append(name)
            return x * factor + shift

        return call

    steps = step("sublayer", 2, 1), step("norm", 10), step("dropout", 5)
    out = add_residual(torch.ones(1), *steps, norm_position, out_norm=step("out_norm", 7))
    return calls, out


def test_post_norm() -> None:
    calls, out = trace("post")
    assert calls == ["sublayer", "dropout", "norm"]
    assert out.item() == 10 * (1 + 5 * (2 * 1 + 1))


def test_pre_norm() -> None:
    calls, out = trace("pre")
    assert calls == ["norm", "sublayer", "dropout"]
    assert out.item() == 1 + 5 * (2 * 10 + 1)


def test_norms_on_both_sides() -> None:
    calls, out = trace("both")
    assert calls == ["norm", "sublayer", "out_norm", "dropout"]
    assert out.item() == 1 + 5 * 7 * (2 * 10 + 1)


def test_norms_of_outputs() -> None:
    calls, _ = trace("out")
    assert calls == ["sublayer", "norm", "dropout"]


def test_what_is_carried_on_may_be_normed() -> None:
    calls, out = trace("pre_carried")
    assert calls == ["norm", "sublayer", "dropout"]
    assert out.item() == 10 + 5 * (2 * 10 + 1)


def test_both_needs_its_second_norm() -> None:
    with pytest.raises(ValueError, match="needs an out_norm"):
        add_residual(torch.ones(1), *[lambda x: x] * 3, "both")


def test_another_place_is_refused() -> None:
    with pytest.raises(ValueError, match="'middle'"):
        trace("middle")
