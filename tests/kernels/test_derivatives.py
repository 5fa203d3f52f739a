"""What is faster than its formula can be differentiated, transformed and traced as the formula can, with its values."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, jvp, vmap
from torch.testing import assert_close

from tests.blocks.naive import naive_attention
from tests.kernels.transforms import (
    EVERY,
    TRANSFORMS,
    WARNINGS,
    Function,
    Inputs,
    first_derivative,
    forward_mode,
    leaves,
)
from transformer_zoo.blocks import (
    Dropout,
    FeedForward,
    NgramEmbedding,
    RMSNorm,
    RotaryPositions,
    Rotation,
    TokenEmbedding,
    attend,
)
from transformer_zoo.blocks.feed_forward import ACTIVATIONS
from transformer_zoo.inference.projections import Int8Linear, PackedLinear, ScreenedLinear
from transformer_zoo.kernels.int8 import has_int8
from transformer_zoo.kernels.norm import rms_norm

Case = tuple[Function, Function, Inputs]
B, H, T, DH = 2, 2, 3, 4
CALLED = ("rms_norm_by_one_plus", "dropout", "embedding", "ngrams")  # by what no trace knows


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def rotated(layout: str, dim: int) -> Case:
    rotation = RotaryPositions(DH, dim=dim, layout=layout).double()(3, 3 + T)
    matrices = torch.eye(DH, dtype=torch.float64).repeat(T, 1, 1)
    for pair in range(dim // 2):
        a, b = (2 * pair, 2 * pair + 1) if layout == "interleaved" else (pair, pair + dim // 2)
        matrices[:, a, a] = matrices[:, b, b] = rotation.cos[:, pair]
        matrices[:, b, a], matrices[:, a, b] = rotation.sin[:, pair], -rotation.sin[:, pair]

    def formula(x: Tensor) -> Tensor:
        return torch.einsum("tij,bhtj->bhti", matrices, x)

    return rotation.apply, formula, (numbers(B, H, T, DH),)


def attention(n_kv_heads: int = H, **options: Any) -> Case:
    def formula(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        given = dict(options)
        if given.pop("is_causal", False):
            given["mask"] = torch.ones(T, T, dtype=torch.bool).tril()
        return naive_attention(q, k, v, **given, **({} if bias is None else {"bias": bias}))

    def ours(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        return attend(q, k, v, **options, **({} if bias is None else {"bias": bias}))

    return ours, formula, (numbers(B, H, T, DH), numbers(B, n_kv_heads, T, DH), numbers(B, n_kv_heads, T, DH))


def biased_attention() -> Case:
    ours, formula, inputs = attention()
    return ours, formula, (*inputs, numbers(1, H, T, T))


def dropped() -> Case:
    module = Dropout(0.4)
    torch.manual_seed(3)
    kept = module(torch.ones(B, T, dtype=torch.float64))

    def ours(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return module(x.sin())

    return ours, lambda x: x.sin() * kept, (numbers(B, T),)


def embedded() -> Case:
    module, ids = TokenEmbedding(5, DH, pad_id=0).double(), torch.tensor([[1, 4, 4], [2, 3, 1]])
    rows = 2 * F.one_hot(ids, 5).double()
    return lambda weight: functional_call(module, {"weight": weight}, (ids,)), lambda w: rows @ w, (numbers(5, DH),)


def ngrams() -> Case:
    module, ids = NgramEmbedding(DH, 3, 7).double(), torch.tensor([[1, 4, 4], [2, 0, 1]])
    eye = torch.eye(14, dtype=torch.float64)
    rows = functional_call(NgramEmbedding(14, 3, 7), {"weight": eye}, (ids,)).detach()
    return lambda weight: functional_call(module, {"weight": weight}, (ids,)), lambda w: rows @ w, (numbers(14, DH),)


def unit_offset() -> Case:
    norm = RMSNorm(DH, unit_offset=True, eps=0.1).double()
    ours = lambda x, w: functional_call(norm, {"weight": w}, (x,))  # noqa: E731
    return (
        ours,
        lambda x, w: x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt() * (1 + w),
        (numbers(T, DH), numbers(DH)),
    )


_EMPTY_ROW = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
CASES: dict[str, Callable[[], Case]] = {
    "rms_norm": lambda: (
        lambda x, w: rms_norm(x, w, 0.1),
        lambda x, w: x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt() * w,
        (numbers(B, T, DH), numbers(DH)),
    ),
    "rms_norm_without_weight": lambda: (
        lambda x: rms_norm(x, None, 0.1),
        lambda x: x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt(),
        (numbers(B, T, DH),),
    ),
    "rms_norm_of_one_row": lambda: (
        lambda x: rms_norm(x, torch.ones_like(x), 0.1),
        lambda x: F.rms_norm(x, (DH,), None, 0.1),
        (numbers(DH),),
    ),
    "rms_norm_by_one_plus": unit_offset,
    "rotation_halves": partial(rotated, "halves", 4),
    "rotation_interleaved": partial(rotated, "interleaved", 4),
    "rotation_of_a_part": partial(rotated, "halves", 2),
    "relu_squared": lambda: (ACTIVATIONS["relu_squared"], lambda x: x.clamp_min(0) ** 2, (numbers(B, T),)),
    "dropout": dropped,
    "embedding": embedded,
    "ngrams": ngrams,
    "attention": attention,
    "attention_causal": partial(attention, is_causal=True, scale=0.3),
    "attention_grouped": partial(attention, n_kv_heads=1),
    "attention_masked": partial(attention, mask=_EMPTY_ROW),
    "attention_biased": partial(attention, bias=numbers(H, T, T)),
    "attention_learned_bias": biased_attention,
}


pytestmark = pytest.mark.filterwarnings(*WARNINGS)
BACKWARDS = "grad", "hessian_product", "third", "penalty", "functional_hessian", "checkpoint", "anomaly"


@pytest.mark.parametrize("transform", EVERY)
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_formulas(case: str, transform: str) -> None:
    ours, formula, inputs = CASES[case]()
    if case == "dropout" and transform not in BACKWARDS:
        pytest.skip("it is torch's there, which draws other numbers: a test of its own")
    wanted, got = TRANSFORMS[transform](formula, inputs), TRANSFORMS[transform](ours, inputs)
    assert_close(got, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", [case for case in CASES if "dropout" not in case])
def test_differences_are_its_derivatives(case: str) -> None:
    ours, _, inputs = CASES[case]()
    own = leaves(inputs)
    assert gradcheck(ours, own, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(ours, own)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("case", [case for case in CASES if case not in CALLED])
def test_it_can_be_traced(case: str) -> None:
    ours, formula, inputs = CASES[case]()
    traced = torch.jit.trace(ours, inputs)
    assert_close(traced(*inputs), ours(*inputs))
    others = tuple(torch.cat([x, x.cos()]) if x.dim() > 2 and len(x) == B else x.cos() for x in inputs)
    assert_close(traced(*others), formula(*others), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", [case for case in CASES if case != "dropout"])
def test_it_can_be_compiled_in_one_graph(case: str) -> None:
    ours, formula, inputs = CASES[case]()
    torch.compiler.reset()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    assert_close(first_derivative(compiled, inputs), first_derivative(formula, inputs), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in ("hardswish", "relu6")])
def test_activations_have_two_derivatives(name: str) -> None:
    ffn = FeedForward(DH, 5, activation=name).double()
    x = numbers(T, DH).requires_grad_()
    assert gradcheck(ffn, (x,), check_forward_ad=True)
    assert gradgradcheck(ffn, (x,))
    assert vmap(grad(lambda x: ffn(x).sum()))(x).shape == x.shape


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_dropout_is_torchs_where_it_is_transformed() -> None:
    module, x = Dropout(0.4).train(), torch.ones(500, dtype=torch.float64)
    one, other = vmap(module, randomness="different")(torch.stack([x, x]))
    assert not torch.equal(one, other)
    one, other = vmap(module, randomness="same")(torch.stack([x, x]))
    assert torch.equal(one, other)
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(module)(torch.stack([x, x]))
    for out in (
        grad(lambda x: module(x).sum())(x),
        jvp(module, (x,), (x,))[1],
        torch.jit.trace(module, (x,), check_trace=False)(x),
    ):
        assert set(out.unique().tolist()) == {0.0, 1 / 0.6}
        assert 0.5 < (out > 0).double().mean() < 0.7


def test_a_rotation_by_angles_that_are_learned_has_their_gradient() -> None:
    angles, x = numbers(T, DH // 2).requires_grad_(), numbers(B, H, T, DH)
    assert gradcheck(lambda angles: Rotation(angles.cos(), angles.sin()).apply(x), (angles,))


@pytest.mark.parametrize("kind", [PackedLinear, Int8Linear, ScreenedLinear])
def test_what_is_for_inference_alone_refuses_a_gradient(kind: type[nn.Module]) -> None:
    if kind is ScreenedLinear and not has_int8():
        pytest.skip("needs products of 8 bits")
    module, x = kind(torch.randn(5, 32)), torch.randn(3, 32, requires_grad=True)
    with torch.no_grad():
        wanted = module(x)
    out = module(x)
    assert torch.equal(out, wanted)
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        out.sum().backward()
    for transform in (lambda: grad(lambda x: module(x).sum())(x), lambda: forward_mode(module, (x.detach(),))):
        with pytest.raises(RuntimeError, match="cannot be differentiated"):
            transform()
