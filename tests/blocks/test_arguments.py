"""What configurations refuse, blocks refuse too: every argument of every public block, by its kind."""

import dataclasses
import importlib
import inspect
import math
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from transformer_zoo import blocks
from transformer_zoo.blocks import Attention, DecoderLayer, EncoderLayer, FeedForward, KVCache, RotaryPositions
from transformer_zoo.config import NgramSpec, Spec
from transformer_zoo.config.attention import SelfAttentionSpec
from transformer_zoo.config.feed_forward import FfnSpec
from transformer_zoo.config.norm import NormSpec
from transformer_zoo.config.positions import PositionsSpec, ScalingSpec
from transformer_zoo.config.spec import kinds_of
from transformer_zoo.errors import UserError

RIGHT: dict[Callable[..., Any], dict[str, Any]] = {
    Attention: {"d_model": 16, "n_heads": 4},
    EncoderLayer.paper: {"d_model": 16, "n_heads": 4, "d_ff": 8},
    DecoderLayer.paper: {"d_model": 16, "n_heads": 4, "d_ff": 8},
    FeedForward: {"d_model": 16, "d_ff": 8},
    blocks.Dropout: {},
    blocks.LayerNorm: {"d_model": 16},
    blocks.RMSNorm: {"d_model": 16},
    blocks.Linear: {"in_features": 16, "out_features": 8},
    blocks.TokenEmbedding: {"vocab_size": 9, "d_model": 16},
    blocks.HeadProjection: {"d_model": 16, "activation": "tanh"},
    blocks.LabelHead: {"d_model": 16, "n_labels": 3},
    blocks.NgramEmbedding: {"d_model": 16, "n": 2, "rows": 5},
    blocks.SinusoidalPositions: {"d_model": 16},
    blocks.LearnedPositions: {"max_seq_len": 9, "d_model": 16},
    RotaryPositions: {"head_dim": 8},
    blocks.LinearScaling: {"factor": 2.0},
    blocks.Llama3Scaling: {"factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_seq_len": 8},
    blocks.YarnScaling: {"factor": 2.0, "original_max_seq_len": 8},
    blocks.AlibiBias: {"n_heads": 4},
    blocks.RelativeBias: {"n_heads": 4},
    KVCache.empty: {"batch": 1, "n_kv_heads": 2, "capacity": 3, "head_dim": 4},
    blocks.StaticKVCache.empty: {"batch": 1, "n_kv_heads": 2, "capacity": 3, "head_dim": 4},
}
# Made of tensors, other modules or other blocks' results; tested elsewhere.
MADE_OTHERWISE = {
    blocks.KVCache, blocks.StaticKVCache, blocks.ProjectedMemory, blocks.Rotation, blocks.View, blocks.BaseAttention,
    EncoderLayer, DecoderLayer, blocks.Positions,
}  # fmt: skip
FROM_ZERO = {
    "blank",
    "offset",
    "table_size",
    "pad_id",
    "batch",
    "n_kv_heads of a cache",
    "capacity",
    "head_dim of a cache",
}


def arguments() -> Iterator[tuple[Callable[..., Any], str, Any]]:
    """Block, argument, type."""
    for block, right in RIGHT.items():
        init = block.__init__ if inspect.isclass(block) else block
        hints = typing.get_type_hints(init, vars(inspect.getmodule(block)))
        for name, kind in hints.items():
            if name not in (
                "return",
                "device",
                "dtype",
                "scaling",
                "rotary",
                "scores",
                "qk_norm",
                "norm",
                "projection",
            ):
                yield block, name, kind
        assert right.keys() <= hints.keys()


def wrong_values(block: Callable[..., Any], name: str, kind: Any) -> list[Any]:
    types = set(typing.get_args(kind)) or {kind}
    wrong: list[Any] = [] if type(None) in types else [None]
    wrong += ["8 ", [1], torch.tensor(1.5)]
    is_cache = not inspect.isclass(block)
    if name == "bias" and block is Attention:
        return [None, 1, 0, 2.0, "all", ["q", "x"], [1]]
    if bool in types and float in types:  # a number, or whether there is one
        return [*wrong, -1.0, 0, 0.0, math.nan, math.inf]
    if bool in types:
        return [*wrong, 0, 1, 2, 0.5]
    if float in types:
        wrong += [True, -1.0, -0.5, math.nan, math.inf, -math.inf]
        return [*wrong, 1.0, 1, 2.0] if "dropout" in name or name == "p" else [*wrong, 0, 0.0]
    if int in types:
        wrong += [True, 1.0, 2.5, -1, math.nan]
        return wrong if name in FROM_ZERO or (is_cache and f"{name} of a cache" in FROM_ZERO) else [*wrong, 0]
    assert str in types or any(typing.get_origin(one) is typing.Literal for one in types), name
    return [*wrong, "", "other", 3, True]


ARGUMENTS = list(arguments())


@pytest.mark.parametrize("argument", ARGUMENTS, ids=[f"{block.__qualname__}.{name}" for block, name, _ in ARGUMENTS])
def test_what_is_out_of_range_is_refused_when_a_block_is_made(argument: tuple[Callable[..., Any], str, Any]) -> None:
    block, name, kind = argument
    block(**RIGHT[block])
    for wrong in wrong_values(block, name, kind):
        with pytest.raises(ValueError, match=r"is|expected|must") as refused:
            block(**RIGHT[block] | {name: wrong})
        assert name in str(refused.value), (wrong, refused.value)


def test_every_public_block_is_in_the_table() -> None:
    classes = {getattr(blocks, name) for name in blocks.__all__ if inspect.isclass(getattr(blocks, name))}
    assert classes - MADE_OTHERWISE <= set(RIGHT)


@pytest.mark.parametrize(
    ("block", "arguments", "message"),
    [
        (Attention, {"d_model": 16, "n_heads": 3}, "d_model 16 is not a multiple of n_heads 3"),
        (Attention, {"d_model": 16, "n_heads": 4, "n_kv_heads": 3}, "n_heads 4 is not a multiple of n_kv_heads 3"),
        (EncoderLayer.paper, {"d_model": 16, "n_heads": 3, "d_ff": 8}, "not a multiple"),
        (RotaryPositions, {"head_dim": 7}, "must be even"),
        (RotaryPositions, {"head_dim": 8, "dim": 3}, "must be even"),
        (RotaryPositions, {"head_dim": 8, "dim": 10}, "at most head_dim 8"),
        (RotaryPositions, {"head_dim": 8, "scaling": 2.0}, "scaling is 2.0"),
        (RotaryPositions, {"head_dim": 8, "scaling": "yarn"}, "scaling is 'yarn'"),
        (RotaryPositions, {"head_dim": 8, "base": 1.0, "scaling": blocks.YarnScaling(2.0, 8)}, "above 1"),
        (blocks.Llama3Scaling, RIGHT[blocks.Llama3Scaling] | {"low_freq_factor": 4.0}, "below"),
        (blocks.TokenEmbedding, {"vocab_size": 9, "d_model": 4, "pad_id": 9}, "outside the vocabulary of 9"),
        (blocks.RelativeBias, {"n_heads": 4, "buckets": 3}, "at least 1"),
        (Attention, {"d_model": 16, "n_heads": 4, "rotary": 10000.0}, "rotary is 10000.0"),
        (Attention, {"d_model": 16, "n_heads": 4, "qk_norm": True}, "qk_norm is True"),
        (blocks.window_mask, {"queries": torch.arange(3), "keys": torch.arange(3), "window": 0}, "window of 0"),
        (blocks.init_gpt2, {"module": torch.nn.Linear(2, 2), "n_layers": 0}, "n_layers is 0"),
        (blocks.init_gpt2, {"module": torch.nn.Linear(2, 2), "n_layers": 1, "std": -1.0}, "std is -1.0"),
        (blocks.sinusoids, {"positions": torch.arange(3), "d_model": -1}, "d_model is -1"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(block: Callable[..., Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        block(**arguments)


@pytest.mark.parametrize(
    "changes", [{"dropout": 1.0}, {"dropout": -0.5}, {"scale": 0.0}, {"softcap": 0.0}, {"softcap": -1.0}]
)
def test_attend_refuses_what_attention_does(changes: dict[str, float]) -> None:
    x = torch.randn(1, 2, 3, 4)
    function = blocks.attend if "dropout" in changes else lambda q, k, v, **how: blocks.attention_weights(q, k, **how)
    with pytest.raises(ValueError, match="expected"):
        function(x, x, x, **changes)


def specs() -> Iterator[tuple[type[Spec], Callable[..., Any]]]:
    """Each spec of the package with its block."""
    for role in (SelfAttentionSpec, FfnSpec, NormSpec, PositionsSpec, ScalingSpec, NgramSpec):
        for spec in kinds_of(role).values():
            file, _, name = spec.module.partition(":")
            yield spec, getattr(importlib.import_module(file), name)


def test_specs_refuse_the_same() -> None:
    """Every field that a block takes, with every value that the block refuses."""
    tried = 0
    for spec, block in specs():
        names = {field.name for field in dataclasses.fields(spec)}
        for other, name, kind in ARGUMENTS:
            if other is block and name in names and (block, name) != (Attention, "bias"):  # which blocks take by name
                for wrong in wrong_values(block, name, kind):
                    tried += 1
                    with pytest.raises(UserError):
                        spec(**{name: wrong})
    assert tried > 100
