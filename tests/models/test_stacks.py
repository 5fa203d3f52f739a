"""The stacks: where dropout is, and where the last norm is."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.models.helpers import GPT_VARIANTS, VARIANTS, small_gpt, small_model
from transformer_zoo.blocks import LayerNorm, RMSNorm, sinusoids
from transformer_zoo.models.empty import n_parameters


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_post_norm_ends_with_its_last_layer(stack: str) -> None:
    assert isinstance(getattr(small_model(), stack).final_norm, nn.Identity)
    assert isinstance(getattr(small_model(norm_position="pre"), stack).final_norm, LayerNorm)
    assert isinstance(getattr(small_model(norm_position="pre", norm="rmsnorm"), stack).final_norm, RMSNorm)


def test_the_encoder_is_positions_then_layers_then_norm() -> None:
    encoder, x = small_model(norm_position="pre", **{"positions.layout": "halves"}).encoder, torch.randn(2, 5, 12)
    y = x + sinusoids(torch.arange(5), 12, layout="halves")
    for layer in encoder.layers:
        y = layer(y)
    assert_close(encoder(x), encoder.final_norm(y))


def test_dropout_is_on_embedding_plus_position() -> None:
    """If all sublayers give zeros, a pre-norm stack without its norm returns its input."""
    encoder = small_model(norm_position="pre", dropout=0.5).encoder
    encoder.final_norm = nn.Identity()
    for layer in encoder.layers:
        for weight in (*layer.attn.out_proj.parameters(), *layer.ffn.down_proj.parameters()):
            nn.init.zeros_(weight)
    x = torch.randn(2, 5, 12)
    entered = x + sinusoids(torch.arange(5), 12)
    assert_close(encoder(x), entered)
    out = encoder.train()(x)
    kept = out != 0
    assert 0.2 < kept.float().mean().item() < 0.8
    assert_close(out[kept], 2 * entered[kept])


def test_norm_eps_reaches_every_norm() -> None:
    model = small_model(norm_position="pre", **{"norm.eps": 0.01})
    norms = [part for part in model.modules() if isinstance(part, LayerNorm)]
    assert len(norms) == 2 * 2 + 2 * 3 + 2
    assert {norm.eps for norm in norms} == {0.01}


def test_each_dropout_field_reaches_its_place() -> None:
    model = small_model(dropout=0.1, attention_dropout=0.2, activation_dropout=0.3)
    assert model.encoder.dropout.p == model.decoder.dropout.p == 0.1
    for layer in (*model.encoder.layers, *model.decoder.layers):
        assert (layer.dropout.p, layer.attn.dropout, layer.ffn.dropout.p) == (0.1, 0.2, 0.3)
    assert {layer.cross_attn.dropout for layer in model.decoder.layers} == {0.2}


@pytest.mark.parametrize(
    "variant", [(small_model, name) for name in VARIANTS] + [(small_gpt, name) for name in GPT_VARIANTS]
)
def test_parameters_are_counted_from_the_configuration_alone(variant: tuple[Callable[..., nn.Module], str]) -> None:
    build, name = variant
    model = build(**(VARIANTS if build is small_model else GPT_VARIANTS)[name])
    assert n_parameters(model.config) == sum(weight.numel() for weight in model.parameters())
