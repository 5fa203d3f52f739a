"""Encoder and decoder layers against torch's, and what they do with masks, caches and memories."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.blocks.naive import assert_same_gradients, copy_from, layer_pairs
from transformer_zoo.blocks import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    KVCache,
    LayerNorm,
    RMSNorm,
    causal_mask,
    key_mask,
)

B, TS, TT, D, H, D_FF = 3, 7, 5, 14, 2, 11
SOURCE_REAL = torch.arange(TS) < torch.tensor([[7], [4], [1]])
TARGET_REAL = torch.arange(TT) < torch.tensor([[5], [2], [3]])


def torch_options(norm_position: str, activation: str) -> dict[str, object]:
    pre = norm_position == "pre"
    return {
        "dim_feedforward": D_FF,
        "dropout": 0.0,
        "activation": activation,
        "batch_first": True,
        "norm_first": pre,
    }


def parts(activation: str = "relu") -> tuple[Attention, FeedForward, LayerNorm]:
    return Attention(D, H), FeedForward(D, D_FF, activation=activation), LayerNorm(D)


TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE.keys())


def assert_same(got: Tensor, wanted: Tensor, inputs: list[Tensor], tolerance: float) -> None:
    """Outputs, and the gradients of inputs; backward of both, so that the weights have theirs."""
    upstream = torch.nn.functional.normalize(torch.randn_like(got).flatten(), dim=0).view_as(got)
    assert_close(got, wanted, rtol=tolerance, atol=tolerance)
    grads = []
    for out in (got, wanted):
        for x in inputs:
            x.grad = None
        out.backward(upstream)
        grads.append([x.grad for x in inputs])
    assert_close(grads[0], grads[1], rtol=tolerance, atol=tolerance)


@DTYPES
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_encoder_layer_agrees_with_torch(
    kernel: str, norm_position: str, activation: str, masked: bool, dtype: torch.dtype
) -> None:
    ours = EncoderLayer(*parts(activation), dropout=0.0, norm_position=norm_position).to(dtype)
    theirs = nn.TransformerEncoderLayer(D, H, **torch_options(norm_position, activation)).to(dtype)
    pairs = layer_pairs(ours, theirs)
    copy_from(pairs)
    x = torch.randn(B, TS, D, dtype=dtype, requires_grad=True)
    got = ours(x, mask=key_mask(SOURCE_REAL) if masked else None)
    wanted = theirs(x, src_key_padding_mask=~SOURCE_REAL if masked else None)
    assert_same(got, wanted, [x], TOLERANCE[dtype])
    assert_same_gradients(pairs, TOLERANCE[dtype])
    assert set(pairs) == set(ours.parameters())


@DTYPES
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_decoder_layer_agrees_with_torch(
    kernel: str, norm_position: str, activation: str, masked: bool, dtype: torch.dtype
) -> None:
    cross_attention = Attention(D, H)
    ours = DecoderLayer(
        *parts(activation), cross_attention=cross_attention, dropout=0.0, norm_position=norm_position
    ).to(dtype)
    theirs = nn.TransformerDecoderLayer(D, H, **torch_options(norm_position, activation)).to(dtype)
    pairs = layer_pairs(ours, theirs)
    copy_from(pairs)
    x = torch.randn(B, TT, D, dtype=dtype, requires_grad=True)
    memory = torch.randn(B, TS, D, dtype=dtype, requires_grad=True)
    got = ours(
        x,
        memory,
        mask=key_mask(TARGET_REAL) if masked else None,
        memory_mask=key_mask(SOURCE_REAL) if masked else None,
    )
    wanted = theirs(
        x,
        memory,
        tgt_mask=~causal_mask(TT),
        tgt_key_padding_mask=~TARGET_REAL if masked else None,
        memory_key_padding_mask=~SOURCE_REAL if masked else None,
    )
    assert_same(got, wanted, [x, memory], TOLERANCE[dtype])
    assert_same_gradients(pairs, TOLERANCE[dtype])
    assert set(pairs) == set(ours.parameters())


def test_a_decoder_layer_without_cross_attention_is_a_causal_encoder_layer() -> None:
    encoder = EncoderLayer.paper(D, H, D_FF, dropout=0.0, norm_position="pre")
    decoder = DecoderLayer(*parts(), dropout=0.0, norm_position="pre")
    decoder.load_state_dict(encoder.state_dict())  # the same names, all of them
    x = torch.randn(B, TT, D)
    assert_close(decoder(x), encoder(x, is_causal=True))


def test_cross_attention_needs_a_memory() -> None:
    with pytest.raises(ValueError, match="encoder's output"):
        DecoderLayer.paper(D, H, D_FF)(torch.randn(B, TT, D))


def test_a_memory_of_another_width_and_shared_heads() -> None:
    attention, cross_attention = (Attention(D, 4, n_kv_heads=2, head_dim=5, bias=False, d_memory=d) for d in (None, 9))
    feed_forward = FeedForward(D, D_FF, gated=True, bias=False)
    layer = DecoderLayer(attention, feed_forward, RMSNorm(D), cross_attention=cross_attention)
    assert isinstance(layer.cross_attn, Attention)
    assert layer.cross_attn.k_proj.weight.shape == (10, 9)
    assert layer.attn.k_proj.weight.shape == (10, D)
    assert layer(torch.randn(B, TT, D), torch.randn(B, TS, 9)).shape == (B, TT, D)


@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_cached_steps_equal_the_whole(kernel: str, norm_position: str) -> None:
    layer = DecoderLayer.paper(D, H, D_FF, norm_position=norm_position).eval()
    x, memory, memory_mask = torch.randn(B, TT, D), torch.randn(B, TS, D), key_mask(SOURCE_REAL)
    cache, projected = KVCache.empty(B, H, TT, D // H), layer.cross_attn.project_memory(memory)
    pieces = [layer(part, projected, memory_mask=memory_mask, cache=cache) for part in x.split([2, 1, 2], dim=1)]
    assert_close(torch.cat(pieces, dim=1), layer(x, memory, memory_mask=memory_mask), rtol=1e-5, atol=1e-5)


def test_an_additive_bias_reaches_self_attention(kernel: str) -> None:
    layer, x, bias = EncoderLayer.paper(D, H, D_FF).eval(), torch.randn(B, TS, D), torch.randn(H, TS, TS)
    y = layer.attn_norm(x + layer.attn(x, bias=bias))
    assert_close(layer(x, bias=bias), layer.ffn_norm(y + layer.ffn(y)))


def test_dropout_is_on_sublayer_outputs_only() -> None:
    """Were everything dropped, post-norm would leave norm(norm(x)); p close to 1 comes near."""
    layer, x = EncoderLayer.paper(D, H, D_FF, dropout=1 - 2**-16), torch.randn(B, TS, D)
    assert_close(layer(x), layer.ffn_norm(layer.attn_norm(x)))
    exact = layer.eval()(x)
    assert not torch.allclose(exact, layer.ffn_norm(layer.attn_norm(x)))
    assert torch.equal(layer(x), exact)


@pytest.mark.parametrize("where", ["dropout", "attention_dropout", "activation_dropout"])
def test_each_dropout_has_its_own_field(where: str) -> None:
    given = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0) | {where: 0.5}
    attention, feed_forward = (
        Attention(D, H, dropout=given["attention_dropout"]),
        FeedForward(D, D_FF, dropout=given["activation_dropout"]),
    )
    layer = EncoderLayer(attention, feed_forward, LayerNorm(D), dropout=given["dropout"])
    x = torch.randn(B, TS, D)
    assert not torch.equal(layer(x), layer(x))
    rates = {
        "dropout": layer.dropout.p,
        "attention_dropout": layer.attn.dropout,
        "activation_dropout": layer.ffn.dropout.p,
    }
    assert rates == given


def test_attention_and_feed_forward_side_by_side() -> None:
    """x + Attention(Norm(x)) + FFN(Norm'(x)), section 2.1 of the GPT-NeoX-20B paper."""
    layer, x = EncoderLayer.paper(12, 3, 17, norm_position="parallel", dropout=0.0), torch.randn(2, 5, 12)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    wanted = x + layer.attn(layer.attn_norm(x)) + layer.ffn(layer.ffn_norm(x))
    assert_close(layer(x), wanted)
    shared = EncoderLayer.paper(12, 3, 17, norm_position="parallel_shared", dropout=0.0)
    shared.load_state_dict({name: w for name, w in layer.state_dict().items() if not name.startswith("ffn_norm")})
    assert_close(shared(x), x + layer.attn(layer.attn_norm(x)) + layer.ffn(layer.attn_norm(x)))
    for side_by_side in ("parallel", "parallel_shared"):
        with pytest.raises(ValueError, match="no place for cross-attention"):
            DecoderLayer.paper(12, 3, 17, norm_position=side_by_side)
