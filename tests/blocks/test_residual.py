"""The residual connection: where the norm and the dropout go."""

import pytest
import torch
from torch import Tensor

from transformer_zoo.blocks import residual


def trace(norm_position: str) -> tuple[list[str], Tensor]:
    """What is called in which order, and the result for x = 1."""
    calls: list[str] = []

    def step(name: str, factor: float, shift: float = 0.0) -> object:
        def call(x: Tensor) -> Tensor:
            calls.append(name)
            return x * factor + shift

        return call

    out = residual(torch.ones(1), step("sublayer", 2, 1), step("norm", 10), step("dropout", 5), norm_position)
    return calls, out


def test_post_norm() -> None:
    calls, out = trace("post")
    assert calls == ["sublayer", "dropout", "norm"]
    assert out.item() == 10 * (1 + 5 * (2 * 1 + 1))


def test_pre_norm() -> None:
    calls, out = trace("pre")
    assert calls == ["norm", "sublayer", "dropout"]
    assert out.item() == 1 + 5 * (2 * 10 + 1)


def test_another_place_is_refused() -> None:
    with pytest.raises(ValueError, match="'middle'"):
        trace("middle")
