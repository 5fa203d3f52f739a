"""Rotary positions against complex numbers, and what they promise: scores depend on distance alone."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from transformer_zoo.blocks import Attention, LinearScaling, Llama3Scaling, RMSNorm, RotaryPositions, YarnScaling

B, H, T, DH = 2, 3, 7, 10


@pytest.mark.parametrize("layout", ["halves", "interleaved"])
@pytest.mark.parametrize("dim", [DH, 6])
def test_each_pair_turns_as_a_complex_number(layout: str, dim: int) -> None:
    x = torch.randn(B, H, T, DH)
    got = RotaryPositions(DH, base=100.0, dim=dim, layout=layout)(0, T).apply(x)
    for place in range(T):
        for pair in range(dim // 2):
            first, second = (pair, pair + dim // 2) if layout == "halves" else (2 * pair, 2 * pair + 1)
            turn = complex(math.cos(a := place * 100.0 ** (-2 * pair / dim)), math.sin(a))
            wanted = torch.complex(x[:, :, place, first], x[:, :, place, second]) * turn
            assert_close(got[:, :, place, first], wanted.real, rtol=1e-5, atol=1e-6)
            assert_close(got[:, :, place, second], wanted.imag, rtol=1e-5, atol=1e-6)
    assert_close(got[..., dim:], x[..., dim:])


def test_scores_depend_on_distance_alone() -> None:
    rotary, q, k = RotaryPositions(DH, table_size=5), torch.randn(1, 1, 1, DH), torch.randn(1, 1, 1, DH)

    def score(i: int, j: int) -> float:
        return (rotary(i, i + 1).apply(q) * rotary(j, j + 1).apply(k)).sum().item()

    assert score(3, 1) == pytest.approx(score(1002, 1000), rel=1e-4)
    assert score(3, 1) != pytest.approx(score(3, 2), rel=1e-2)


def test_given_positions_are_those_of_the_table() -> None:
    rotary, x = RotaryPositions(DH, table_size=5), torch.randn(B, H, 3, DH)
    positions = torch.tensor([[0, 1, 2], [4, 9, 1]])
    got = rotary(0, 3, positions).apply(x)
    for row in range(B):
        for column, place in enumerate(positions[row].tolist()):
            wanted = rotary(place, place + 1).apply(x[row : row + 1, :, column : column + 1])
            assert_close(got[row : row + 1, :, column : column + 1], wanted)


def test_linear_scaling_interpolates_positions() -> None:
    x = torch.randn(1, 1, 1, DH)
    slow = RotaryPositions(DH, scaling=LinearScaling(4.0))(12, 13).apply(x)
    assert_close(slow, RotaryPositions(DH)(3, 4).apply(x))


def test_yarn_by_hand() -> None:
    """Pair i rotates by 10^-i radians a token: in 1000 tokens 1000 / (2 pi) 10^-i = 159, 15.9, 1.59, 0.159 times."""
    frequencies = torch.tensor([1.0, 1e-1, 1e-2, 1e-3], dtype=torch.float64)
    # 159.155 turns are 100 at pair 0.2018, and 1 at pair 2.2018
    scaling = YarnScaling(4.0, 1000, beta_fast=100.0, beta_slow=1.0, truncate=False)
    slowed = [0.0, (1 - 0.2018) / 2, (2 - 0.2018) / 2, 1.0]
    wanted = [f * (1 - s + s / 4) for f, s in zip(frequencies.tolist(), slowed, strict=True)]
    assert_close(scaling.scale(frequencies), torch.tensor(wanted, dtype=torch.float64), rtol=1e-4, atol=0)
    # from pair 0 to pair 3
    wanted = [1.0, 1e-1 * (2 / 3 + 1 / 12), 1e-2 * (1 / 3 + 2 / 12), 1e-3 / 4]
    whole = replace(scaling, truncate=True).scale(frequencies)
    assert_close(whole, torch.tensor(wanted, dtype=torch.float64))
    x = torch.randn(2, H, 3, DH)
    still = RotaryPositions(DH, scaling=scaling)(0, 1).apply(x)  # place 0 is not rotated
    assert_close(still, x * (0.1 * math.log(4.0) + 1))
    assert_close(RotaryPositions(DH, scaling=replace(scaling, attention_factor=0.5))(0, 1).apply(x), x / 2)
    with pytest.raises(ValueError, match="YaRN needs a rotary dim of 4 or more"):
        RotaryPositions(DH, dim=2, scaling=scaling)


def test_yarn_is_computed_without_a_look_at_its_numbers() -> None:
    scaling = YarnScaling(4.0, 1000)
    with torch.device("meta"):
        RotaryPositions(DH, scaling=scaling)
    rotary, places = RotaryPositions(DH, scaling=scaling), torch.tensor([[3, 1, 4]])
    compiled = torch.compile(lambda places: rotary(0, 3, places).cos, fullgraph=True, backend="eager")
    assert_close(compiled(places), rotary(0, 3, places).cos)


def test_llama_3_scaling_by_hand() -> None:
    """Three frequencies: the highest is kept, the lowest is divided by 8, and the one in the middle of the ramp gets
    the mean of both."""
    scaling = Llama3Scaling(8.0, 1.0, 4.0, 100)
    frequency = 2 * math.pi / 100
    got = scaling.scale(torch.tensor([5 * frequency, 2.5 * frequency, 0.5 * frequency], dtype=torch.float64))
    wanted = [5 * frequency, 2.5 * frequency * (0.5 + 0.5 / 8), 0.5 * frequency / 8]
    assert_close(got, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dim": 3}, "must be even"), ({"dim": 12}, "at most head_dim 10"), ({"layout": "thirds"}, "one of halves")],
)
def test_what_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RotaryPositions(DH, **options)  # type: ignore[arg-type]


def test_normed_queries_and_keys_do_not_depend_on_their_size() -> None:
    attn, x = Attention(12, 3, bias=False, qk_norm=RMSNorm(4, eps=1e-12)), torch.randn(B, T, 12)
    before = attn(x, is_causal=True)
    with torch.no_grad():
        attn.q_proj.weight *= 5
        attn.k_proj.weight *= 0.3
    assert_close(attn(x, is_causal=True), before)


@pytest.mark.parametrize("over", ["head", "own_head", "all_heads"])
def test_norms_after_rotation(over: str) -> None:
    """Norms without a weight give the same before and after it, with weights they do not."""
    rotary, x = RotaryPositions(4), torch.randn(B, T, 12)
    norms = (RMSNorm(12), RMSNorm(12)) if over == "all_heads" else RMSNorm(4)
    how: dict[str, Any] = {"bias": False, "qk_norm": norms, "qk_norm_over": over, "rotary": rotary}
    before, after = Attention(12, 3, **how), Attention(12, 3, **how, qk_norm_after_rotation=True)
    after.load_state_dict(before.state_dict())
    assert_close(after(x, is_causal=True), before(x, is_causal=True))

    def turned(projection: nn.Module, norm: nn.Module) -> Tensor:
        heads = rotary(0, T).apply(projection(x).unflatten(-1, (3, 4)).transpose(1, 2))  # (B, H, T, Dh)
        return norm(heads.transpose(1, 2)).transpose(1, 2)

    for weight in (*after.q_norm.parameters(), *after.k_norm.parameters()):
        nn.init.normal_(weight)
    values = after.v_proj(x).unflatten(-1, (3, 4)).transpose(1, 2)
    queries, keys = turned(after.q_proj, after.q_norm), turned(after.k_proj, after.k_norm)
    heads = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    assert_close(after(x, is_causal=True), after.out_proj(heads.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("missing", ["qk_norm", "rotary"])
def test_norms_after_rotation_need_both(missing: str) -> None:
    how: dict[str, Any] = {"qk_norm": RMSNorm(4), "rotary": RotaryPositions(4), missing: None}
    with pytest.raises(ValueError, match="qk_norm_after_rotation is for a qk_norm beside rotary"):
        Attention(12, 3, qk_norm_after_rotation=True, **how)


def test_softcap_by_hand(kernel: str) -> None:
    """Two keys with scores 0 and 4, capped at 2: 2 tanh(2)."""
    attn = Attention(1, 1, bias=False, softcap=2.0)
    with torch.no_grad():
        for projection in (attn.q_proj, attn.k_proj, attn.v_proj, attn.out_proj):
            projection.weight.fill_(1)
    got = attn(torch.tensor([[[1.0]]]), torch.tensor([[[0.0], [4.0]]]))
    assert got.item() == pytest.approx(4 / (1 + math.exp(-2 * math.tanh(2))))


@pytest.mark.parametrize("layout", ["halves", "interleaved"])
def test_a_gradient_may_lie_in_memory_in_any_way(layout: str) -> None:
    positions = RotaryPositions(6, layout=layout)
    for upstream in (
        torch.randn(2, 3, 6, 5).mT,
        torch.randn(2, 3, 5, 7)[..., 1:],
        torch.randn(6).expand(2, 3, 5, 6),
    ):
        x = torch.randn(2, 3, 5, 6, requires_grad=True)
        gradients = [torch.autograd.grad(positions(0, 5).apply(x), x, g)[0] for g in (upstream, upstream.contiguous())]
        torch.testing.assert_close(*gradients)
