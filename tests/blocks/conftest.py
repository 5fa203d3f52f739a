"""Attention has two kernels, and each test of it runs with each of them."""

import pytest
from torch import Tensor

from transformer_zoo.kernels import dot_product


@pytest.fixture(params=["matmul", "fused"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Force one of the kernels, whatever the shape."""

    def always(queries: Tensor, keys: Tensor, dropout: float) -> bool:
        return bool(request.param == "matmul")

    monkeypatch.setattr(dot_product, "_products_are_faster", always)
    return str(request.param)
