"""Initialisation."""

import pytest
import torch
from torch import nn

from transformer_zoo.blocks import DecoderLayer, init_xavier


def test_xavier_for_every_linear_layer_and_nothing_else() -> None:
    layer = DecoderLayer.paper(48, 4, 192)
    norms = {name: w.clone() for name, w in layer.named_parameters() if "norm" in name}
    init_xavier(layer)
    for name, part in layer.named_modules():
        if isinstance(part, nn.Linear):
            bound = (6 / (part.in_features + part.out_features)) ** 0.5
            if name.endswith(("q_proj", "k_proj", "v_proj")):  # as rows of one (3D, D) matrix
                bound = (6 / (48 + 3 * 48)) ** 0.5
            assert part.weight.abs().max().item() <= bound, name
            assert part.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05), name
            assert part.bias is not None
            assert part.bias.count_nonzero() == 0
    assert all(torch.equal(layer.get_parameter(name), w) for name, w in norms.items())


def test_queries_keys_and_values_start_as_torchs() -> None:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(96, 4).in_proj_weight.std().item()
    layer = DecoderLayer.paper(96, 4, 192)
    init_xavier(layer)
    for proj in (layer.attn.q_proj, layer.cross_attn.k_proj):
        assert proj.weight.std().item() == pytest.approx(theirs, rel=0.05)
