"""Each kernel gives what the first function of its file gives, and `plain` makes that one run."""

import ast
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from transformer_zoo import kernels
from transformer_zoo.kernels import activation, dot_product, dropping, int8, norm, projection, rotation
from transformer_zoo.kernels.derivatives import is_plain

Kernel = Callable[..., Tensor]
# Files of the kernels that hold no operation.
NO_KERNELS = {"__init__", "cpu", "derivatives", "divided", "lists"} | {"attention", "cross_entropy_in_place"}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 0.02}


def numbers(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape).to(dtype).requires_grad_()


def turned(layout: str, part: int) -> Callable[..., tuple[Any, ...]]:
    """x of heads, and the angles of so many pairs."""

    def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Any, ...]:
        angles = torch.randn(shape[-2], max(shape[-1] // part, 2) // 2).to(dtype)
        return numbers(*shape, dtype=dtype), angles.cos(), angles.sin(), layout

    return inputs


def attending(part: str) -> Callable[..., tuple[Any, ...]]:
    """Queries, keys, values, and one of the things that a formula has beside them; the first query may see nothing."""

    def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Any, ...]:
        mask = torch.rand(shape[0], 1, shape[2], shape[2]) < 0.7
        mask[:, :, :1] = False
        options = {
            "nothing": dot_product.Options(),
            "mask": dot_product.Options(mask),
            "bias": dot_product.Options(bias=torch.randn(shape[1], shape[2], shape[2])),
            "mask and bias": dot_product.Options(mask, torch.randn(1, shape[1], 1, shape[2]), scale=0.3),
            "causal": dot_product.Options(is_causal=True),
            "soft-cap": dot_product.Options(mask, softcap=1.5),
        }[part]
        return *(numbers(*shape, dtype=dtype) for _ in range(3)), options

    return inputs


HEADS = ((2, 3, 5, 6), (1, 2, 1, 8), (2, 1, 17, 2), (0, 2, 3, 4))
ROWS = ((6,), (1, 8), (2, 3, 5), (0, 4), (40, 33))
# The kernel's file and name, the shapes of x, and what it takes of such a shape.
CASES: dict[str, tuple[ModuleType, str, tuple[tuple[int, ...], ...], Callable[..., tuple[Any, ...]]]] = {
    "rotation by halves": (rotation, "rotate", HEADS, turned("halves", 1)),
    "rotation, interleaved": (rotation, "rotate", HEADS, turned("interleaved", 1)),
    "rotation of a part": (rotation, "rotate", HEADS, turned("halves", 2)),
    "rotation of a part, interleaved": (rotation, "rotate", HEADS, turned("interleaved", 2)),
    "rms_norm": (
        norm,
        "rms_norm",
        ROWS,
        lambda shape, dtype: (numbers(*shape, dtype=dtype), numbers(shape[-1], dtype=dtype), 1e-3),
    ),
    "rms_norm without weight": (
        norm,
        "rms_norm",
        ROWS,
        lambda shape, dtype: (numbers(*shape, dtype=dtype), None, 1e-3),
    ),
    **{
        f"attention, {part}": (dot_product, "scaled_dot_product", ((2, 3, 5, 6), (1, 2, 40, 64)), attending(part))
        for part in ("nothing", "mask", "bias", "mask and bias", "causal", "soft-cap")
    },
    "relu_squared": (activation, "relu_squared", ROWS, lambda shape, dtype: (numbers(*shape, dtype=dtype),)),
    "linear": (
        projection,
        "linear",
        ROWS,
        lambda shape, dtype: (
            numbers(*shape, dtype=dtype),
            numbers(7, shape[-1], dtype=dtype),
            numbers(7, dtype=dtype),
        ),
    ),
}


def result(kernel: Kernel, inputs: tuple[Any, ...], grad: bool) -> list[Tensor]:
    """What it gives, and its gradients."""
    with torch.set_grad_enabled(grad):
        out = kernel(*inputs)
        if not grad:
            return [out]
        wanted = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
        upstream = torch.linspace(-1, 1, out.numel()).sin().view(out.shape).to(out.dtype)
        return [out, *torch.autograd.grad(out, wanted, upstream)]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_formula(case: str, dtype: torch.dtype, grad: bool) -> None:
    module, name, shapes, inputs_of = CASES[case]
    for shape in shapes:
        inputs = inputs_of(shape, dtype)
        with kernels.plain():
            wanted = result(getattr(module, name), inputs, grad)
        got = result(getattr(module, name), inputs, grad)
        assert [x.dtype for x in got] == [dtype] * len(got)
        for mine, theirs in zip(got, wanted, strict=True):
            if dtype == torch.bfloat16:  # of which each may round another sum
                assert (mine - theirs).float().norm() <= TOLERANCE[dtype] * theirs.float().norm()
            else:
                assert_close(mine, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 4, 17, 64, 65])
def test_a_large_projection_and_one_that_is_packed(rows: int, autocast: bool) -> None:
    """Beyond the bounds from which another kernel multiplies."""
    x, weight, bias = torch.randn(rows, 1031), torch.randn(1033, 1031) / 32, torch.randn(1033)
    tolerance = TOLERANCE[torch.bfloat16 if autocast else torch.float32]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.no_grad():
        with kernels.plain():
            wanted = projection.linear(x, weight, bias)
        assert_close(projection.linear(x, weight, bias), wanted, rtol=tolerance, atol=tolerance)
    packed = projection.pack_weight(weight)
    exact = projection.formula(x, weight, bias)
    assert_close(projection.packed_linear(x, packed, bias), exact, rtol=1e-5, atol=1e-5)
    with kernels.plain():
        assert_close(projection.packed_linear(x, packed, bias), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rows", "inputs"), [(1, 32), (5, 64), (3, 13)])
def test_products_of_8_bits(rows: int, inputs: int, bias: bool) -> None:
    x = torch.randn(2, rows, inputs)
    weight = torch.randint(-127, 128, (7, inputs), dtype=torch.int8)
    scale, added = (torch.rand(7) / 127).bfloat16(), torch.randn(7) if bias else None
    wanted = int8.formula(x, weight, scale, added)
    results = [int8.int8_linear(x, weight, scale, added)]
    with kernels.plain():
        assert torch.equal(int8.int8_linear(x, weight, scale, added), wanted)
    if int8.has_int8():
        product = partial(int8.int8_product, x, float(x.abs().max()) / 127, int8.prepack(weight), scale.float(), added)
        results.append(product())
        with kernels.plain():
            assert_close(product(), wanted)
    for got in results:
        assert (got - wanted).norm() < 0.02 * wanted.norm()


def test_dropout_is_torchs_where_it_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(1000)
    with kernels.plain():
        torch.manual_seed(1)
        got = dropping.dropout(x, 0.3)
    torch.manual_seed(1)
    assert torch.equal(got, torch.nn.functional.dropout(x, 0.3))
    torch.manual_seed(1)
    assert not torch.equal(got, dropping.dropout(x, 0.3))


def test_plain_ends_with_its_block_also_after_an_error() -> None:
    with kernels.plain():
        with pytest.raises(ZeroDivisionError), kernels.plain():
            1 / 0  # noqa: B018
        assert is_plain()
    assert not is_plain()


PRIVATE: list[tuple[Any, str, Any]] = [
    (torch.ops.mkldnn, "_linear_pointwise", projection.can_pack),
    (torch.ops.mkldnn, "_reorder_linear_weight", projection.can_pack),
    (torch.ops.onednn, "qlinear_prepack", int8.has_int8),
    (torch.ops.onednn, "qlinear_pointwise", int8.has_int8),
    (torch, "_weight_int8pack_mm", int8._has_torchs),
    (torch.ops.aten, "native_layer_norm_backward", norm._has_layer_norm),
]


def gone(*given: object) -> Tensor:
    raise AttributeError("no such operation")


def changed(*given: object) -> Tensor:
    return torch.zeros(3)


@pytest.mark.parametrize("now", [gone, changed])
@pytest.mark.parametrize(("room", "operation", "probe"), PRIVATE, ids=[operation for _, operation, _ in PRIVATE])
def test_where_torch_has_no_such_operation_any_more_the_formula_computes(
    room: Any, operation: str, probe: Any, now: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight = torch.randn(8, 1024, requires_grad=True), torch.randn(1033, 1024)
    rounded, scale = torch.randint(-127, 128, (7, 1024), dtype=torch.int8), torch.rand(7).bfloat16()
    monkeypatch.setattr(room, operation, now)
    probe.cache_clear()
    try:
        assert not probe()
        with torch.no_grad():
            assert_close(projection.linear(x, weight), projection.formula(x, weight), rtol=1e-4, atol=1e-4)
            wanted = int8.formula(x, rounded, scale)
            assert (int8.int8_linear(x, rounded, scale) - wanted).norm() < 0.02 * wanted.norm()
        normed = [function(x, weight[0], 1e-3).square().sum() for function in (norm.rms_norm, norm.formula)]
        got, wanted = (torch.autograd.grad(loss, x)[0] for loss in normed)
        assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    finally:
        probe.cache_clear()


def files() -> list[Path]:
    folder = Path(kernels.__file__).parent
    return [path for path in sorted(folder.glob("*.py")) if path.stem not in NO_KERNELS]


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_a_kernels_file_opens_with_the_formula_and_ends_with_the_gain(path: Path) -> None:
    source = path.read_text("utf-8")
    functions = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    assert functions[0] == "formula"
    assert callable(importlib.import_module(f"transformer_zoo.kernels.{path.stem}").formula)
    tail = source[source.rindex("\n# Gain") :].strip().splitlines()
    assert all(line.startswith("# ") for line in tail)
    assert "recipes/benchmarks/kernels.py" in (text := " ".join(line[2:] for line in tail))
    assert "one machine" in text
