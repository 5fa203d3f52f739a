"""Attention against formulas, against torch's own, and as invariances; every statement for both kernels."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from tests.blocks.naive import (
    assert_same_gradients,
    attention_pairs,
    copy_from,
    heads_of,
    naive_attention,
    naive_weights,
)
from transformer_zoo.blocks import (
    Attention,
    KVCache,
    StaticKVCache,
    attend,
    attention_weights,
    causal_mask,
    combine_masks,
    key_mask,
)
from transformer_zoo.kernels import dot_product

B, H, TQ, TK, DH = 2, 6, 5, 7, 11
MASKS: dict[str, tuple[int, ...] | None] = {
    "none": None,
    "scalar": (),
    "keys": (TK,),
    "queries and keys": (TQ, TK),
    "heads": (H, 1, TK),
    "padding": (B, 1, 1, TK),
    "batch": (B, 1, TQ, TK),
    "whole queries": (B, 1, TQ, 1),
    "heads and queries": (1, H, TQ, TK),
    "everything": (B, H, TQ, TK),
}
BIASES: list[tuple[int, ...] | None] = [
    None,
    (TK,),
    (TQ, TK),
    (H, 1, TK),
    (1, H, TQ, TK),
    (B, 1, 1, TK),
    (B, H, TQ, TK),
]


def random_mask(shape: tuple[int, ...]) -> Tensor:
    """Some places are closed. In a mask of all four dimensions the first query of the first row sees nothing."""
    mask = torch.rand(shape) < 0.6
    if len(shape) == 4 and shape[0] == B and shape[2] == TQ:
        mask[0, :, 0] = False
    return mask if shape else torch.tensor(True)


def leaves(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def gradients(out: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of a weighted sum of the output, in which no two elements share a weight."""
    upstream = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape).sin()
    return torch.autograd.grad((out * upstream).sum(), inputs)


@pytest.mark.parametrize("mask_shape", MASKS.values(), ids=MASKS.keys())
def test_attend_is_the_formula(kernel: str, mask_shape: tuple[int, ...] | None) -> None:
    mask = None if mask_shape is None else random_mask(mask_shape)
    for bias_shape, n_kv_heads, scale in itertools.product(BIASES, (6, 3, 2, 1), (None, 0.7)):
        inputs = leaves((B, H, TQ, DH), (B, n_kv_heads, TK, DH), (B, n_kv_heads, TK, DH))
        bias = None
        if bias_shape is not None:
            inputs += leaves(bias_shape)
            bias = inputs[3]
        got = attend(*inputs[:3], mask=mask, bias=bias, scale=scale)
        wanted = naive_attention(*inputs[:3], mask=mask, bias=bias, scale=scale)
        assert_close(got, wanted, rtol=1e-9, atol=1e-9)
        assert_close(gradients(got, inputs), gradients(wanted, inputs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("with_bias", [False, True])
def test_is_causal_is_the_formula_with_a_triangle(kernel: str, with_bias: bool) -> None:
    triangle = torch.tensor([[key <= query for key in range(TK)] for query in range(TK)])
    for n_kv_heads in (6, 2):
        inputs = leaves((B, H, TK, DH), (B, n_kv_heads, TK, DH), (B, n_kv_heads, TK, DH), (H, TK, TK))
        bias = inputs[3] if with_bias else None
        inputs = inputs if with_bias else inputs[:3]
        got = attend(*inputs[:3], bias=bias, is_causal=True)
        wanted = naive_attention(*inputs[:3], bias=bias, mask=triangle)
        assert_close(got, wanted, rtol=1e-9, atol=1e-9)
        assert_close(gradients(got, inputs), gradients(wanted, inputs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("with_bias", [False, True])
def test_the_fused_kernel_gets_is_causal_alone(monkeypatch: pytest.MonkeyPatch, with_bias: bool) -> None:
    """With a mask or a bias as well, its meaning depends on the kernel that torch picks."""
    seen = []

    def spy(*args: Tensor, attn_mask: Tensor | None, is_causal: bool, **options: object) -> Tensor:
        seen.append((attn_mask is not None, is_causal))
        return args[0]

    monkeypatch.setattr(dot_product, "_products_are_faster", lambda queries, keys, dropout: False)
    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    x = torch.randn(B, H, TQ, DH)
    attend(x, x, x, is_causal=True, bias=torch.zeros(TQ, TQ) if with_bias else None)
    assert seen == [(True, False) if with_bias else (False, True)]


def test_single_precision(kernel: str) -> None:
    queries, keys, values = (torch.randn(B, H, 64, 32) for _ in range(3))
    assert_close(attend(queries, keys, values).double(), naive_attention(queries, keys, values), rtol=1e-5, atol=1e-5)


def test_plain_products_where_the_fused_kernel_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    def fused(*args: Tensor, **options: object) -> Tensor:
        raise NotImplementedError("fused")

    def plain(n: int, dtype: torch.dtype, dropout: float = 0.0) -> bool:
        x = torch.randn(1, 1, n, 96, dtype=dtype)
        try:
            attend(x, x, x, dropout=dropout)
        except NotImplementedError:
            return False
        return True

    monkeypatch.setattr(F, "scaled_dot_product_attention", fused)
    for has_bfloat16, longest in ((False, 128), (True, 512)):
        monkeypatch.setattr(dot_product, "cpu_has_bfloat16", lambda has=has_bfloat16: has)
        assert plain(longest, torch.bfloat16)
        assert not plain(longest + 1, torch.bfloat16)
        with torch.no_grad():  # only its gradient is slow
            assert not plain(16, torch.bfloat16)
        assert plain(600, torch.float32, dropout=0.1)
        assert not plain(16, torch.float32)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_narrow_heads_in_bfloat16_are_multiplied_in_float32(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dot_product, "cpu_has_bfloat16", lambda: True)
    x = torch.randn(2, 3, 5, 8).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(1)
        got = attend(x, x, x, dropout=dropout, is_causal=True)
    torch.manual_seed(1)
    wide = x.detach().float().requires_grad_()
    wanted = attend(wide, wide, wide, dropout=dropout, is_causal=True)
    assert torch.equal(got, wanted.bfloat16())
    got.sum().backward()
    wanted.sum().backward()
    assert x.grad is not None
    assert wide.grad is not None
    assert_close(x.grad.float(), wide.grad, rtol=0.02, atol=0.02)


def test_both_kernels_agree_at_lengths_around_the_choice() -> None:
    for n in (127, 128, 129):
        x = torch.randn(1, 2, n, 8, dtype=torch.float64)
        assert_close(attend(x, x, x, is_causal=True), naive_attention(x, x, x, mask=causal_mask(n)))


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_that_may_attend_to_nothing_gives_zeros(kernel: str, dtype: torch.dtype, with_bias: bool) -> None:
    inputs = leaves((B, H, TQ, DH), (B, H, TK, DH), (B, H, TK, DH), (1, H, TQ, TK), dtype=dtype)
    mask = torch.ones(B, 1, TQ, TK, dtype=torch.bool)
    mask[0, 0, 3] = False
    mask[1] = False
    out = attend(*inputs[:3], mask=mask, bias=inputs[3] if with_bias else None)
    assert out[0, :, 3].count_nonzero() == 0
    assert out[1].count_nonzero() == 0
    assert out[0, :, 4].count_nonzero() > 0
    out.float().square().sum().backward()
    for x in inputs[: 4 if with_bias else 3]:
        assert x.grad is not None
        assert x.grad.isfinite().all()
    assert inputs[0].grad is not None
    assert inputs[0].grad[1].count_nonzero() == 0


def test_a_mask_and_is_causal_together_are_refused(kernel: str) -> None:
    x = torch.randn(B, H, TQ, DH)
    with pytest.raises(ValueError, match="no mask"):
        attend(x, x, x, mask=torch.ones(TQ, TQ, dtype=torch.bool), is_causal=True)
    with pytest.raises(ValueError, match="Tq == Tk"):
        attend(x, x[:, :, :2], x[:, :, :2], is_causal=True)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_weights_and_scales_the_rest(kernel: str, p: float) -> None:
    """Queries of zero weigh n keys with 1/n each; identity values show the weights after dropout."""
    n = 100
    zeros, identity = torch.zeros(40, 2, n, n), torch.eye(n).expand(40, 2, n, n)
    weights = attend(zeros, zeros, identity, dropout=p)
    kept = weights > 0
    assert abs(kept.double().mean().item() - (1 - p)) < 4 * (p * (1 - p) / kept.numel()) ** 0.5
    assert_close(weights[kept], torch.full_like(weights[kept], 1 / n / (1 - p)))
    assert not torch.equal(kept[0, 0], kept[0, 1])


def test_attention_weights_are_the_formula() -> None:
    queries, keys = torch.randn(B, H, TQ, DH), torch.randn(B, 3, TK, DH)
    mask, bias = random_mask((B, 1, TQ, TK)), torch.randn(H, 1, TK)
    got = attention_weights(queries, keys, mask=mask, bias=bias, scale=0.2)
    assert_close(got.double(), naive_weights(queries, keys, mask=mask, bias=bias, scale=0.2), rtol=1e-5, atol=1e-6)
    assert_close(got.sum(-1), mask.any(-1).expand(B, H, TQ).float())


# The module


def by_hand(module: Attention, x: Tensor, memory: Tensor, **options: Tensor | float | None) -> Tensor:
    heads = [heads_of(proj(y), module.head_dim) for proj, y in
             ((module.q_proj, x), (module.k_proj, memory), (module.v_proj, memory))]  # fmt: skip
    out = naive_attention(*heads, **options)
    return module.out_proj(torch.cat(out.unbind(1), dim=-1))


@pytest.mark.parametrize("n_kv_heads", [None, 1, 5])
@pytest.mark.parametrize("d_memory", [None, 17])
@pytest.mark.parametrize("scale", [None, 0.9])
def test_every_width_a_different_prime(
    kernel: str, n_kv_heads: int | None, d_memory: int | None, scale: float | None
) -> None:
    module = Attention(13, 5, head_dim=3, n_kv_heads=n_kv_heads, d_memory=d_memory, scale=scale).double()
    x, memory = leaves((2, 7, 13), (2, 11, d_memory or 13))
    mask, bias = torch.rand(2, 1, 7, 11) < 0.7, torch.randn(5, 7, 11)
    got = module(x, memory, mask=mask, bias=bias)
    wanted = by_hand(module, x, memory, mask=mask, bias=bias, scale=scale)
    assert got.shape == (2, 7, 13)
    assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    inputs = [x, memory, *module.parameters()]
    assert_close(gradients(got, inputs), gradients(wanted, inputs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_heads", [1, 2, 7])
def test_without_a_memory_it_is_self_attention(kernel: str, n_heads: int) -> None:
    module = Attention(14, n_heads)
    x = torch.randn(3, 5, 14)
    assert_close(module(x), module(x, x))
    assert module.head_dim == 14 // n_heads


CASES = ["self", "cross", "causal", "padding", "mask", "mask of each head", "float mask"]


@pytest.mark.parametrize("case", CASES)
def test_it_agrees_with_torch(kernel: str, case: str) -> None:
    batch, n_queries, d_model, n_heads = 3, 5, 21, 3
    d_memory, n_keys = (13, 7) if case == "cross" else (d_model, 5)
    ours = Attention(d_model, n_heads, d_memory=d_memory)
    theirs = nn.MultiheadAttention(d_model, n_heads, kdim=d_memory, vdim=d_memory, batch_first=True)
    pairs = attention_pairs(ours, theirs)
    copy_from(pairs)
    x = torch.randn(batch, n_queries, d_model, requires_grad=True)
    memory = torch.randn(batch, n_keys, d_memory, requires_grad=True) if case == "cross" else x
    mask = bias = padding = disallowed = None
    if case in ("padding", "cross"):
        padding = torch.arange(n_keys) < torch.tensor([[n_keys], [3], [1]])
        mask = key_mask(padding)
    elif case in ("causal", "mask"):
        mask = causal_mask(5) if case == "causal" else (torch.rand(5, 5) < 0.6) | torch.eye(5, dtype=torch.bool)
        disallowed = ~mask
    elif case == "mask of each head":
        mask = (torch.rand(batch, n_heads, 5, 5) < 0.6) | torch.eye(5, dtype=torch.bool)
        disallowed = ~mask.flatten(0, 1)
    elif case == "float mask":
        disallowed = bias = torch.randn(5, 5)
    causal = case == "causal"
    got = ours(x, memory if case == "cross" else None, mask=None if causal else mask, bias=bias, is_causal=causal)
    wanted, wanted_weights = theirs(
        x, memory, memory, attn_mask=disallowed, key_padding_mask=None if padding is None else ~padding,
        average_attn_weights=False,
    )  # fmt: skip
    assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    inputs = [x, memory] if case == "cross" else [x]
    upstream = torch.randn_like(got)
    assert_close(
        torch.autograd.grad(got, inputs, upstream, retain_graph=True),
        torch.autograd.grad(wanted, inputs, upstream, retain_graph=True),
        rtol=1e-5,
        atol=1e-5,
    )
    got.backward(upstream)
    wanted.backward(upstream)
    assert_same_gradients(pairs)
    same, weights = ours(x, memory, mask=mask, bias=bias, return_weights=True)
    assert_close(weights, wanted_weights, rtol=1e-5, atol=1e-5)
    assert_close(same, got, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_returned_weights_are_those_of_the_fast_path(kernel: str, is_causal: bool, masked: bool) -> None:
    module = Attention(12, 4, n_kv_heads=2)
    x = torch.randn(2, 6, 12)
    real = torch.tensor([[True] * 6, [False] * 2 + [True] * 4])  # with is_causal, two rows that may see nothing
    mask = key_mask(real) if masked else None
    fast = module(x, mask=mask, is_causal=is_causal)
    slow, weights = module(x, mask=mask, is_causal=is_causal, return_weights=True)
    assert weights.shape == (2, 4, 6, 6)
    assert_close(slow, fast, rtol=1e-5, atol=1e-6)
    if is_causal:
        assert weights.triu(1).count_nonzero() == 0
    if masked:
        assert weights[1, :, :, :2].count_nonzero() == 0


def test_causal_means_on_top_of_the_mask(kernel: str) -> None:
    module, x = Attention(10, 2).double(), torch.randn(2, 7, 10, dtype=torch.float64)
    mask = random_mask((2, 1, 7, 7))
    assert_close(module(x, mask=mask, is_causal=True), by_hand(module, x, x, mask=mask & causal_mask(7)))


def test_later_tokens_change_nothing_before_them(kernel: str) -> None:
    module, x = Attention(10, 2), torch.randn(2, 7, 10)
    changed = x.clone()
    changed[:, 4:] = torch.randn(2, 3, 10)
    before, after = module(x, is_causal=True), module(changed, is_causal=True)
    assert_close(after[:, :4], before[:, :4], rtol=0, atol=1e-6)
    assert not torch.allclose(after[:, 4:], before[:, 4:], atol=1e-3)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_padding_on_either_side_changes_no_real_token(kernel: str, side: str, is_causal: bool) -> None:
    module, x = Attention(10, 2), torch.randn(1, 4, 10)
    alone = module(x, is_causal=is_causal)
    for n in (1, 3):
        padding, real = torch.randn(1, n, 10) * 50, torch.ones(1, 4, dtype=torch.bool)
        parts, flags = [x, padding], [real, torch.zeros(1, n, dtype=torch.bool)]
        if side == "left":
            parts, flags = parts[::-1], flags[::-1]
        mask = torch.cat(flags, dim=1)
        padded = module(torch.cat(parts, dim=1), mask=key_mask(mask), is_causal=is_causal)
        assert_close(padded[mask], alone[0], rtol=1e-5, atol=1e-6)
        assert padded.isfinite().all()


def test_the_order_of_keys_does_not_matter(kernel: str) -> None:
    module, x, memory = Attention(10, 2, d_memory=6), torch.randn(2, 3, 10), torch.randn(2, 7, 6)
    order = torch.randperm(7)
    assert_close(module(x, memory[:, order]), module(x, memory), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [KVCache, StaticKVCache])
def test_a_cache_filled_in_pieces_is_causal_attention(kernel: str, kind: type[KVCache]) -> None:
    module, x = Attention(12, 4, n_kv_heads=2), torch.randn(2, 7, 12)
    whole = module(x, is_causal=True)
    for sizes in ([1] * 7, [3, 1, 2, 1], [7]):
        cache = kind.empty(2, 2, 9, 3)
        pieces = [module(part, is_causal=True, cache=cache) for part in x.split(sizes, dim=1)]
        assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-5, atol=1e-6)
        assert cache.length == 7


def test_a_cache_and_padding_masks_together(kernel: str) -> None:
    module, x = Attention(12, 4), torch.randn(2, 5, 12)
    real = torch.tensor([[True] * 5, [False] * 2 + [True] * 3])
    whole = module(x, mask=key_mask(real), is_causal=True)
    static, growing = StaticKVCache.empty(2, 4, 5, 3), KVCache.empty(2, 4, 5, 3)
    pieces = [module(part, mask=key_mask(real), is_causal=True, cache=static) for part in x.split([2, 1, 2], dim=1)]
    assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-5, atol=1e-6)
    pieces = []
    for part in x.split([2, 1, 2], dim=1):
        seen = key_mask(real[:, : growing.n_visible(part.size(1))])
        pieces.append(module(part, mask=seen, is_causal=True, cache=growing))
    assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-5, atol=1e-6)


def test_a_projected_memory_stands_for_the_memory(kernel: str) -> None:
    module = Attention(12, 4, n_kv_heads=2, d_memory=5)
    x, memory, mask = torch.randn(2, 3, 12), torch.randn(2, 6, 5), torch.rand(2, 1, 1, 6) < 0.7
    projected = module.project_memory(memory)
    assert projected.keys.shape == projected.values.shape == (2, 2, 6, 3)
    assert_close(module(x, projected, mask=mask), module(x, memory, mask=mask))


def test_more_queries_than_keys_in_causal_order(kernel: str) -> None:
    """The queries are the last ones: those before the first key see nothing."""
    module, x = Attention(6, 2), torch.randn(1, 5, 6)
    out = module(x, x[:, :3], is_causal=True)
    nothing = module.out_proj(torch.zeros(1, 2, 6))
    assert_close(out[:, :2], nothing)
    assert_close(out[:, 2:], module(x[:, 2:], x[:, :3], is_causal=True), rtol=1e-5, atol=1e-6)


def test_dropout_only_in_training(kernel: str) -> None:
    module, x = Attention(12, 4, dropout=0.5), torch.randn(2, 6, 12)
    torch.manual_seed(1)
    first = module(x)
    assert not torch.equal(first, module(x))
    torch.manual_seed(1)
    assert torch.equal(first, module(x))
    exact, _ = module(x, return_weights=True)
    assert_close(module.eval()(x), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False, ("q", "v"), {"out"}, ()])
def test_bias_per_projection(bias: bool | tuple[str, ...]) -> None:
    module = Attention(6, 2, bias=bias)
    wanted = {"q", "k", "v", "out"} if bias is True else set(bias or ())
    assert {name for name in ("q", "k", "v", "out") if getattr(module, f"{name}_proj").bias is not None} == wanted


def test_weight_names_and_shapes() -> None:
    shapes = {
        name: tuple(w.shape) for name, w in Attention(6, 4, n_kv_heads=2, head_dim=5, d_memory=7).named_parameters()
    }
    assert shapes == {
        "q_proj.weight": (20, 6), "q_proj.bias": (20,),
        "k_proj.weight": (10, 7), "k_proj.bias": (10,),
        "v_proj.weight": (10, 7), "v_proj.bias": (10,),
        "out_proj.weight": (6, 20), "out_proj.bias": (6,),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": 4}, "d_model 6 is not a multiple of n_heads 4"),
        ({"n_heads": 3, "n_kv_heads": 2}, "n_heads 3 is not a multiple of n_kv_heads 2"),
        ({"n_heads": 2, "bias": ("q", "key")}, r"bias is \('q', 'key'\), expected True, False, or names"),
    ],
)
def test_widths_that_do_not_fit_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Attention(6, **options)


def test_bfloat16_stays_near_the_formula(kernel: str) -> None:
    inputs = [torch.randn(B, H, TK, DH, dtype=torch.bfloat16) for _ in range(3)]
    mask = combine_masks(random_mask((B, 1, 1, TK)), causal_mask(TK))
    got = attend(*inputs, mask=mask)
    assert got.dtype == torch.bfloat16
    assert_close(got.double(), naive_attention(*inputs, mask=mask), rtol=0.05, atol=0.05)


def test_clip_bounds_queries_keys_and_values() -> None:
    attention, bounded = Attention(12, 3), Attention(12, 3, clip=0.4)
    bounded.load_state_dict(attention.state_dict())
    x = torch.randn(2, 5, 12)
    queries, keys, values = (
        projection(x).clamp(-0.4, 0.4).view(2, 5, 3, 4).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    heads = attend(queries, keys, values)
    wanted = attention.out_proj(heads.transpose(1, 2).flatten(2))
    torch.testing.assert_close(bounded(x), wanted)
    assert not torch.allclose(attention(x), wanted)
