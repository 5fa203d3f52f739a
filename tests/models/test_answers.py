"""Modules answer for themselves: somebody's own in a model starts, counts, trains and is named as the package's do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import transformer_zoo as tz
from tests.models.helpers import GPT_VARIANTS, VARIANTS, small_gpt, small_model
from tests.models.mixture import Mixture
from transformer_zoo.blocks import (
    Attention,
    BaseAttention,
    DecoderLayer,
    LayerNorm,
    check_answers,
    forward_flops,
    init_gpt2,
    init_xavier,
    init_zero_out,
    matrices,
)
from transformer_zoo.blocks.answers import residual_axes
from transformer_zoo.models import Decoder, DecoderOnly
from transformer_zoo.training.config import OptimizerConfig
from transformer_zoo.training.optimizer import make_optimizer
from transformer_zoo.zoo.describe import describe

D, D_FF = 24, 40


def with_mixture() -> DecoderOnly:
    """In every other layer, as initialised as the rest."""
    torch.manual_seed(0)
    model = DecoderOnly(tz.DecoderConfig.of(vocab_size=53, d_model=D, n_heads=4, d_ff=37, n_layers=4, max_seq_len=17))
    for layer in (model.decoder.layers[1], model.decoder.layers[3]):
        layer.ffn = Mixture(D, D_FF)
    check_answers(model)
    init_gpt2(model, 4)
    return model


def test_a_mixture_starts_as_a_feed_forward_does() -> None:
    model = DecoderOnly(tz.DecoderConfig.of(vocab_size=53, d_model=192, n_heads=4, d_ff=37, n_layers=8, max_seq_len=17))
    mixture = model.decoder.layers[1].ffn = Mixture(192, 256)
    init_gpt2(model, 8)
    for expert in mixture.experts:
        for projection, std in ((expert.up_proj, 0.02), (expert.gate_proj, 0.02), (expert.down_proj, 0.005)):
            assert projection.weight.std().item() == pytest.approx(std, rel=0.05)
    assert mixture.router.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_only_active_experts_count() -> None:
    config = tz.DecoderConfig.of(vocab_size=53, d_model=D, n_heads=4, d_ff=37, n_layers=4, max_seq_len=17)
    plain, mixed = forward_flops(DecoderOnly(config), 17), forward_flops(with_mixture(), 17)
    assert mixed == plain + 2 * 2 * (2 * 3 * D * D_FF + 4 * D - 2 * 37 * D)


def test_all_its_matrices_go_to_muon() -> None:
    model = with_mixture()
    muon, adam = make_optimizer(model, OptimizerConfig(name="muon"), lr=1e-3).parts
    taken = {id(p) for group in muon.param_groups for p in group["params"]}
    for layer in (1, 3):
        assert {id(p) for p in model.decoder.layers[layer].ffn.parameters()} <= taken
    rest = {id(p) for group in adam.param_groups for p in group["params"]}
    assert taken | rest == {id(p) for p in model.parameters()}
    assert not taken & rest
    before = [p.clone() for p in model.parameters()]
    model(torch.arange(10)[None]).square().sum().backward()
    muon.step()
    assert sum(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)) == len(taken)


def test_it_has_its_name_in_a_table() -> None:
    found = dict(describe(with_mixture()).parameters)
    assert found["  one layer's mixture of experts"] == 4 * D + 4 * 3 * D * D_FF
    assert found["  one layer's feed-forward"] == 2 * 37 * D + 37 + D
    assert found["  one layer's norms"] == 4 * D


def test_it_is_not_exported_as_something_else(tmp_path: Any) -> None:
    with pytest.raises(tz.UserError, match=r"decoder\.layers\.1\.ffn\.experts.* cannot be exported"):
        tz.to_huggingface(with_mixture(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_it_is_cached_packed_and_written_with() -> None:
    model = with_mixture().eval()
    ids = torch.randint(53, (2, 9))
    cache = model.new_cache(2, 9)
    with torch.no_grad():
        pieces = [model(part, cache=cache) for part in ids.split([4, 1, 4], dim=1)]
        assert_close(torch.cat(pieces, dim=1), model(ids), rtol=1e-4, atol=1e-4)
        assert_close(tz.pack(model)(ids), model(ids), rtol=1e-4, atol=1e-4)
    assert len(tz.generate(model, [[1, 2]], tz.Sampling(temperature=0.0), max_new_tokens=3)[0]) == 3


class Stacked(nn.Module):
    """Experts as one weight each way, (experts, outputs, inputs), and a scale."""

    matrices = ("up", "down")
    reads, writes = ("up",), ("down",)

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.empty(3, D_FF, D)), nn.Parameter(torch.empty(3, D, D_FF))
        self.scale = nn.Parameter(torch.empty(D_FF))

    def init_weights(self) -> None:
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.up.sum(0).T * self.scale) @ self.down.sum(0).T


@pytest.mark.parametrize("init", [init_xavier, lambda m: init_gpt2(m, 2), init_zero_out])
def test_weights_of_its_own_start_as_linears_do(init: Any) -> None:
    stacked = Stacked()
    with torch.no_grad():
        for weight in stacked.parameters():
            weight.fill_(torch.nan)
    torch.manual_seed(1)
    init(stacked)
    torch.manual_seed(1)
    alone = [nn.Linear(*sizes) for sizes in [(D, D_FF)] * 3 + [(D_FF, D)] * 3]
    torch.manual_seed(1)
    for i, linear in enumerate(alone):
        pair = nn.Module()
        pair.part, pair.reads, pair.writes = linear, ("part",), ("part",) if i > 2 else ()
        init(pair)
    assert_close(torch.stack([linear.weight for linear in alone[:3]]), stacked.up, rtol=0, atol=0)
    assert_close(torch.stack([linear.weight for linear in alone[3:]]), stacked.down, rtol=0, atol=0)
    assert stacked.scale.tolist() == [1] * D_FF
    assert forward_flops(stacked, 7) == 2 * 2 * 3 * D * D_FF
    assert [m.shape for m in matrices(stacked)] == [(3, D_FF, D), (3, D, D_FF)]


def test_muon_takes_stacked_matrices_one_by_one() -> None:
    from transformer_zoo.training.muon import Muon

    together, alone = nn.Parameter(torch.ones(3, 5, 7)), [nn.Parameter(torch.ones(5, 7)) for _ in range(3)]
    together.grad = torch.randn(3, 5, 7)
    for p, gradient in zip(alone, together.grad, strict=True):
        p.grad = gradient.clone()
    Muon([together], lr=0.1).step()
    Muon(alone, lr=0.1).step()
    assert_close(together.detach(), torch.stack([p.detach() for p in alone]))


class Silent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(D, D_FF), nn.Linear(D_FF, D)


class Unset(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.empty(3, D, D))


class Misspelt(Silent):
    reads, writes = ("w1",), ("w3",)


class Grown(nn.Linear):
    def __init__(self) -> None:
        super().__init__(D, D)
        self.low_rank = nn.Parameter(torch.empty(2, D))


@pytest.mark.parametrize(
    ("part", "lacks"),
    [
        (Silent, r"ffn \(Silent\) multiplies by w1, w2: it must say .*reads = .*writes = "),
        (Unset, r"ffn \(Unset\) has weights of its own, experts: it must say .*matrices = .*init_weights"),
        (Misspelt, r"ffn \(Misspelt\) names w3 among its writes"),
        (Grown, r"ffn \(Grown\) has weights of its own, low_rank"),
        (lambda: nn.MultiheadAttention(D, 4), r"ffn \(MultiheadAttention\) has weights of its own, in_proj"),
    ],
)
def test_who_does_not_answer_is_refused_by_name(part: Any, lacks: str) -> None:
    model = small_gpt()
    model.decoder.layers[1].ffn = part()
    with pytest.raises(ValueError, match=rf"^decoder\.layers\.1\.{lacks}"):
        check_answers(model)


class Plain(nn.Module):
    """A feed-forward of torch's own layers."""

    reads, writes = ("w1",), ("w2",)

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.w1, self.w2 = nn.LayerNorm(D), nn.Linear(D, D_FF), nn.Linear(D_FF, D)
        self.table = nn.Embedding(3, D)


def test_torchs_own_layers_need_no_words() -> None:
    model = small_gpt()
    model.decoder.layers[1].ffn = plain = Plain()
    check_answers(model)
    init_gpt2(model, 2, std=0.5)
    for weight, std in [(plain.w1.weight, 0.5), (plain.w2.weight, 0.25), (plain.table.weight, 0.5)]:
        assert weight.std().item() == pytest.approx(std, rel=0.15)
    assert plain.w1.bias.count_nonzero() == plain.norm.bias.count_nonzero() == 0
    assert {id(m) for m in matrices(plain)} == {id(plain.w1.weight), id(plain.w2.weight)}


def permuted(model: Any, width: int, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits before and after the residual stream's places were exchanged in every weight that says it has them."""
    for part in model.modules():
        if hasattr(part, "table"):  # sinusoids are not weights
            part.table.zero_()
    wanted, order = model(*inputs), torch.randperm(width)
    with torch.no_grad():
        for name, axes in residual_axes(model).items():
            weight = model.get_parameter(name)
            for axis in axes:
                weight.copy_(weight.index_select(axis, order))
    return model(*inputs), wanted


@pytest.mark.parametrize("name", VARIANTS)
def test_permuting_the_residual_stream_changes_nothing(name: str) -> None:
    model = small_model(**VARIANTS[name])
    got, wanted = permuted(model, 12, torch.tensor([[5, 6, 7, 3]]), torch.tensor([[2, 8, 9]]))
    assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", GPT_VARIANTS)
def test_permuting_the_residual_stream_of_a_text_model_changes_nothing(name: str) -> None:
    got, wanted = permuted(small_gpt(**GPT_VARIANTS[name]), D, torch.randint(53, (2, 7)))
    assert_close(got, wanted, rtol=1e-4, atol=1e-4)


class Averaging(BaseAttention):
    """Attention without a score: everybody is the mean of what it sees."""

    n_heads, head_dim = 1, D

    def forward(self, x: Tensor, *, view: Any, cache: Any = None) -> Tensor:
        weights = torch.ones(x.size(1), x.size(1)).tril()
        return (weights / weights.sum(1, keepdim=True)) @ x


def test_an_attention_of_ones_own_is_asked_what_the_stack_needs() -> None:
    with pytest.raises(ValueError, match=r"layer 1: its attention `attn` is a Averaging without `new_cache`"):
        Decoder(DecoderLayer(attention, Plain(), LayerNorm(D)) for attention in (Attention(D, 4), Averaging()))
    with pytest.raises(ValueError, match=r"layer 0: its attention `attn` is a Linear without `view`"):
        Decoder([DecoderLayer(nn.Linear(D, D), Plain(), LayerNorm(D))])  # type: ignore[arg-type]
