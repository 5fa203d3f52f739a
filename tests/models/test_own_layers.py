"""Stacks of layers that differ, attention of one's own with a cache of its own, and a look at attention weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.models.helpers import small_gpt, small_model
from tests.models.mixture import Mixture
from transformer_zoo.blocks import (
    Attention,
    BaseAttention,
    DecoderLayer,
    FeedForward,
    KVCache,
    LayerNorm,
    LearnedPositions,
    Linear,
    RMSNorm,
    RotaryPositions,
    StaticKVCache,
    View,
    attend,
    causal_mask,
    key_mask,
    record_weights,
    window_mask,
)
from transformer_zoo.models import Decoder

B, T, D, H = 2, 9, 12, 3


class LatentAttention(BaseAttention):
    """Keys and values from a narrow latent, which alone is kept, beside one rotated key of all heads (DeepSeek-V2)."""

    reads, writes = ("q_proj", "latent_proj", "turned_proj"), ("out_proj",)

    def __init__(self, d_model: int, n_heads: int, *, rank: int, width: int, turned: int) -> None:
        super().__init__()
        self.n_heads, self.head_dim, self.width, self.rank = n_heads, width + turned, width, rank
        self.rotary = RotaryPositions(turned)
        self.q_proj = Linear(d_model, n_heads * self.head_dim, bias=False)
        self.latent_proj, self.turned_proj = Linear(d_model, rank, bias=False), Linear(d_model, turned, bias=False)
        self.kv_proj = Linear(rank, 2 * n_heads * width, bias=False)
        self.out_proj = Linear(n_heads * width, d_model, bias=False)

    def forward(self, x: Tensor, *, view: View, cache: KVCache | None = None) -> Tensor:
        turn = view.rotation.apply
        queries = self.q_proj(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, Tq, Dh)
        queries = torch.cat([queries[..., : self.width], turn(queries[..., self.width :])], dim=-1)
        latent, turned = self.latent_proj(x)[:, None], turn(self.turned_proj(x)[:, None])  # (B, 1, Tq, ...)
        if cache is not None:
            latent, turned = cache.append(latent, turned)
        keys, values = self.kv_proj(latent[:, 0]).unflatten(-1, (self.n_heads, -1)).transpose(1, 2).chunk(2, dim=-1)
        keys = torch.cat([keys, turned.expand(-1, self.n_heads, -1, -1)], dim=-1)
        heads = attend(queries, keys, values, mask=view.mask, bias=view.bias, is_causal=view.is_causal)
        return self.out_proj(heads.transpose(1, 2).flatten(2))

    def new_cache(self, batch: int, capacity: int, *, static: bool = False, **where: Any) -> KVCache:
        widths = self.rank, self.rotary.dim
        return (StaticKVCache if static else KVCache)(*(torch.empty(batch, 1, capacity, w, **where) for w in widths))


def layer(attention: BaseAttention, feed_forward: nn.Module | None = None) -> DecoderLayer:
    feed_forward = FeedForward(D, 17) if feed_forward is None else feed_forward
    return DecoderLayer(attention, feed_forward, RMSNorm(D), norm_position="pre", dropout=0.0)


def unlike(**around: Any) -> Decoder:
    """Two bases and a window, no positions, a mixture, latent attention, another norm position."""
    local, everywhere = RotaryPositions(4, base=100.0), RotaryPositions(4, base=10000.0, table_size=4)
    layers = [
        layer(Attention(D, H, rotary=local, window=3)),
        layer(Attention(D, H, rotary=everywhere), Mixture(D, 7)),
        layer(Attention(D, H, rotary=local, window=3, n_kv_heads=1)),
        layer(Attention(D, 2)),
        layer(LatentAttention(D, H, rank=5, width=4, turned=2)),
        DecoderLayer(
            Attention(D, H, rotary=everywhere), FeedForward(D, 8), LayerNorm(D), norm_position="post", dropout=0.0
        ),
    ]
    return Decoder(layers, final_norm=LayerNorm(D), dropout=0.0, **around).eval()


def test_a_stack_is_its_layers_one_after_the_other() -> None:
    decoder, x = unlike(), torch.randn(B, T, D)
    y = x
    for one in decoder.layers:
        y = one(y)
    assert_close(decoder(x), decoder.final_norm(y))


def test_each_layer_sees_what_its_attention_says() -> None:
    """The first layer, by hand: a window of 3, and a base of 100."""
    decoder, x = unlike(), torch.randn(B, T, D)
    first: Any = decoder.layers[0]
    attn, normed = first.attn, first.attn_norm(x)
    heads = [p(normed).unflatten(-1, (H, -1)).transpose(1, 2) for p in (attn.q_proj, attn.k_proj, attn.v_proj)]
    places = torch.arange(T)
    angles = places[:, None] * 100.0 ** -torch.tensor([0.0, 0.5])
    turned = []
    for x_heads in heads[:2]:
        a, b = x_heads.chunk(2, dim=-1)
        turned.append(torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=-1))
    mask = causal_mask(T) & window_mask(places, places, 3)
    seen = attend(*turned, heads[2], mask=mask)
    y = x + attn.out_proj(seen.transpose(1, 2).flatten(2))
    assert_close(first(x), y + first.ffn(first.ffn_norm(y)), rtol=1e-4, atol=1e-5)


def test_the_same_rotation_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, turned = RotaryPositions.turn, []
    monkeypatch.setattr(RotaryPositions, "turn", lambda self, *rest: turned.append(self.base) or turn(self, *rest))
    unlike()(torch.randn(B, T, D))
    assert turned == [100.0, 10000.0, 10000.0]  # the last one is the latent attention's own


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("positions", [None, lambda: LearnedPositions(T, D)])
@pytest.mark.parametrize("sizes", [[1] * T, [4, 1, 4], [T]], ids=["tokens", "chunks", "at once"])
@torch.no_grad()
def test_each_layer_has_the_cache_that_it_needs(sizes: list[int], positions: Any, static: bool) -> None:
    decoder, x = unlike(positions=positions and positions()), torch.randn(B, T, D)
    cache = decoder.new_cache(B, T + 2, static=static)
    assert [t.size(1) * t.size(3) for t in cache.layers[4].held] == [5, 2]
    pieces = [decoder(part, cache=cache) for part in x.split(sizes, dim=1)]
    assert_close(torch.cat(pieces, dim=1), decoder(x), rtol=1e-4, atol=1e-5)
    cache.select(torch.tensor([1]))
    cache.drop(1)
    again = decoder(x[1:, -1:], cache=cache)
    assert_close(again, pieces[-1][1:, -1:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_padding_on_the_left_changes_nothing() -> None:
    decoder, x = unlike(), torch.randn(B, T, D)
    real = torch.arange(T) >= torch.tensor([[0], [3]])
    positions = (real.long().cumsum(1) - 1).clamp_min(0)
    padded = decoder(x, mask=key_mask(real), positions=positions)
    assert_close(padded[1:, 3:], decoder(x[1:, 3:]), rtol=1e-4, atol=1e-5)


def test_unlike_layers_learn_and_are_computed_again() -> None:
    decoder, x, upstream = unlike().train(), torch.randn(B, T, D), torch.randn(B, T, D)
    gradients = []
    for recompute in (False, True):
        decoder.recompute = recompute
        gradients.append(torch.autograd.grad((decoder(x) * upstream).sum(), [*decoder.parameters()]))
    assert_close(gradients[0], gradients[1])


def test_a_memory_has_no_places() -> None:
    attention = Attention(D, H, rotary=RotaryPositions(4))
    with pytest.raises(ValueError, match="rotary, scores, window and cache are for self-attention"):
        attention(torch.randn(B, T, D), torch.randn(B, 3, D))


@torch.no_grad()
def test_attention_weights_of_whole_models() -> None:
    gpt, translator = small_gpt(positions="rotary", sliding_window=3), small_model(norm_position="pre")
    ids, target = torch.randint(4, 19, (2, 6)), torch.randint(4, 19, (2, 4))
    wanted, translated = gpt(ids), translator(ids, target)
    with record_weights(gpt) as weights, record_weights(translator) as more:
        assert_close(gpt(ids), wanted, rtol=1e-4, atol=1e-4)
        assert_close(translator(ids, target), translated, rtol=1e-4, atol=1e-4)
    assert list(weights) == ["decoder.layers.0.attn", "decoder.layers.1.attn"]
    places = torch.arange(6)
    seen = causal_mask(6) & window_mask(places, places, 3)
    for found in weights.values():
        assert found.shape == (2, 4, 6, 6)
        assert_close(found.sum(-1), torch.ones(2, 4, 6))
        assert not found.masked_select(~seen).any()
    assert more["decoder.layers.1.cross_attn"].shape == (2, 2, 4, 6)
    assert len(more) == 2 + 2 * 2
    x = translator.embedding(ids)
    first: Any = translator.encoder.layers[0]
    x = translator.encoder.positions.add(x, 0, None)
    assert_close(first.attn(first.attn_norm(x), return_weights=True)[1], more["encoder.layers.0.attn"])
    del weights["decoder.layers.0.attn"]
    gpt(ids)
    assert list(weights) == ["decoder.layers.1.attn"]  # nobody looks any more
