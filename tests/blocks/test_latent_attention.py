"""Latent attention: its equations one head at a time, its small cache, and all that a model asks of it."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import transformer_zoo as tz
from transformer_zoo.blocks import Attention, KVCache, RotaryPositions, StaticKVCache, forward_flops, record_weights
from transformer_zoo.blocks.latent_attention import LatentAttention
from transformer_zoo.config import DecoderConfig
from transformer_zoo.config.latent_attention import LatentSpec
from transformer_zoo.inference import generate_plainly, processors
from transformer_zoo.kernels import plain

B, T, D, H, C, Q, DH, R, DV = 3, 7, 13, 3, 11, 5, 4, 6, 17
RANKS = pytest.mark.parametrize("q_rank", [None, Q])


def block(q_rank: int | None = Q, value_dim: int = DV) -> LatentAttention:
    rotary = RotaryPositions(R, layout="interleaved")
    made = LatentAttention(
        D, H, kv_rank=C, q_rank=q_rank, head_dim=DH, rotary_dim=R, value_dim=value_dim, bias=True, rotary=rotary
    )
    for weight in made.parameters():
        nn.init.normal_(weight, std=0.5)
    return made.double().eval()


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def turn(x: Tensor) -> Tensor:
    """(T, R), pair by pair as complex numbers."""
    angles = torch.arange(len(x), dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(0, R, 2).double() / R)
    pairs = torch.view_as_complex(x.reshape(len(x), -1, 2).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(1)


@RANKS
@pytest.mark.parametrize("value_dim", [DV, 2])
def test_it_is_the_papers_equations(q_rank: int | None, value_dim: int) -> None:
    made, x = block(q_rank, value_dim), torch.randn(B, T, D, dtype=torch.float64)
    got = made(x, is_causal=True)
    for row in range(B):
        down = made.kv_down(x[row])
        c, key = norm(down[:, :C], made.kv_norm.weight), turn(down[:, C:])
        if q_rank is None:
            queries = made.q_proj(x[row])
        else:
            queries = made.q_up(norm(made.q_down(x[row]), made.q_norm.weight))
        found = []
        for head in range(H):
            up = made.kv_up.weight[head * (DH + value_dim) : (head + 1) * (DH + value_dim)]
            q = queries[:, head * (DH + R) : (head + 1) * (DH + R)]
            scores = (q[:, :DH] @ (c @ up[:DH].T).T + turn(q[:, DH:]) @ key.T) / (DH + R) ** 0.5
            scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -torch.inf)
            found.append(scores.softmax(-1) @ (c @ up[DH:].T))
        assert_close(got[row], made.out_proj(torch.cat(found, -1)), atol=1e-6, rtol=1e-6)  # float32 tables of rotation


@RANKS
@pytest.mark.parametrize("kind", [KVCache, StaticKVCache])
@pytest.mark.parametrize("sizes", [[1] * T, [3, 1, 3], [7]])
def test_with_a_cache_it_is_as_without(q_rank: int | None, kind: type[KVCache], sizes: list[int]) -> None:
    made, x = block(q_rank), torch.randn(B, T, D, dtype=torch.float64)
    cache = made.new_cache(B, T + 2, static=kind is StaticKVCache, dtype=torch.float64)
    assert type(cache) is kind
    assert [tuple(held.shape) for held in cache.held] == [(B, 1, T + 2, C + R)]  # and not H (2 Dh + R)
    with torch.no_grad():
        parts = [made(part, cache=cache) for part in x.split(sizes, 1)]
        assert_close(torch.cat(parts, 1), made(x, is_causal=True), atol=1e-6, rtol=1e-6)


def test_its_formula_alone_gives_the_same() -> None:
    made, x = block(), torch.randn(B, T, D, dtype=torch.float64)
    with plain():
        wanted = made(x, is_causal=True)
    assert_close(made(x, is_causal=True), wanted)


def small(**changes: object) -> tz.DecoderOnly:
    latent = LatentSpec(n_heads=H, kv_rank=C, q_rank=Q, head_dim=DH, rotary_dim=R, value_dim=5)
    config = DecoderConfig.of(
        vocab_size=31, d_model=D, d_ff=19, n_layers=2, max_seq_len=23, positions="rotary", attention=latent, **changes
    )
    assert DecoderConfig.from_dict(config.to_dict()) == config
    model = tz.DecoderOnly(config).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.4)
    return model


def test_a_model_of_it_writes_by_cache_as_without_and_side_by_side_as_alone() -> None:
    model, prompts = small(), [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
    greedy = tz.Sampling(temperature=0)
    together = tz.generate(model, prompts, greedy, max_new_tokens=9, ignore_eos=True)
    for prompt, answer in zip(prompts, together, strict=True):
        assert tz.generate(model, [prompt], greedy, max_new_tokens=9, ignore_eos=True) == [answer]
        text = list(prompt)
        for token in answer:
            assert int(model(torch.tensor([text]))[0, -1].argmax()) == token
            text.append(token)
    packed = tz.generate(tz.pack(model), prompts, greedy, max_new_tokens=9, ignore_eos=True)
    assert packed == together


def test_it_answers_for_itself() -> None:
    model = small()
    made = model.decoder.layers[0].attn
    products = D * Q + Q * H * (DH + R) + D * (C + R) + C * H * (DH + 5) + H * 5 * D
    assert forward_flops(made, 10) == 2 * products + 2 * H * (DH + R + 5) * 10
    with record_weights(model) as weights:
        model(torch.tensor([[1, 2, 3]]))
    assert weights["decoder.layers.0.attn"].shape == (1, H, 3, 3)
    assert_close(weights["decoder.layers.0.attn"].sum(-1), torch.ones(1, H, 3))


def test_no_other_familys_form_takes_it(tmp_path: object) -> None:
    with pytest.raises(tz.UserError, match="attention"):
        tz.to_huggingface(small(**{"positions.layout": "interleaved"}), tmp_path, family="llama")


def test_a_translator_of_it_attends_to_its_source_as_the_paper_does() -> None:
    latent = LatentSpec(n_heads=H, kv_rank=C, q_rank=None, head_dim=DH, rotary_dim=R, value_dim=5)
    config = tz.get_config("transformer-tiny", vocab_size=31, attention=latent)
    model = tz.create_model("transformer-tiny", vocab_size=31, attention=latent).eval()
    assert type(config).from_dict(config.to_dict()) == config
    assert [type(layer.cross_attn) for layer in model.decoder.layers] == [Attention] * config.decoder.n_layers
    source, greedy = [5, 6, 7, 3], tz.Sampling(temperature=0)
    [answer] = tz.generate(model, [source], greedy, max_new_tokens=6, ignore_eos=True)
    rules = processors(greedy, model)
    assert answer == generate_plainly(model, source, greedy, rules, max_new_tokens=6, ignore_eos=True)
    [[best]] = tz.beam_search(model, [source], tz.BeamSearch(beam=3, max_extra=2))
    assert len(best.tokens) <= 6
