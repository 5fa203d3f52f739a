"""What a configuration accepts, what it refuses and in which words."""

import dataclasses
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from transformer_zoo.config import (
    DecoderConfig,
    EncoderDecoderConfig,
    FeedForwardSpec,
    LayerSpec,
    LearnedSpec,
    Llama3Spec,
    RMSNormSpec,
    RotarySpec,
    SinusoidalSpec,
    StackSpec,
)
from transformer_zoo.config.changes import value_at
from transformer_zoo.errors import UserError

SMALL: dict[str, Any] = {"vocab_size": 50, "d_model": 16, "n_heads": 4}


def test_the_defaults_are_the_papers_base_model() -> None:
    config = EncoderDecoderConfig(vocab_size=37000)
    assert (config.d_model, config.dropout, config.encoder) == (512, 0.1, config.decoder)
    layer = config.encoder.layers[0]
    assert (layer.attention.n_heads, layer.ffn) == (8, FeedForwardSpec(d_ff=2048, activation="relu", dropout=0.0))
    assert (config.encoder.n_layers, config.encoder.norm_position) == (6, "post")
    assert config.encoder.positions == SinusoidalSpec(layout="interleaved")
    assert (config.share_embeddings, config.scale_embeddings, config.target_vocab_size) == ("all", True, None)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"target_vocab_size": 70, "share_embeddings": "decoder"},
        {"never_ids": (7, 2)},
        {"never_ids": ()},
        {
            "n_kv_heads": 2,
            "head_dim": 5,
            "dropout": 0,
            "norm": "rmsnorm",
            "norm_position": "pre",
            "norm.eps": 1,
            "attention.qk_norm": "rmsnorm",
            "attention.qk_norm.eps": 0.1,
        },
        {"positions": "learned", "d_model": 15, "n_heads": 3, "gated": True, "activation": "gelu_tanh"},
    ],
)
def test_round_trip_through_json(changes: dict[str, Any]) -> None:
    config = EncoderDecoderConfig.of(**SMALL | changes)
    again = EncoderDecoderConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert set(config.to_dict()) == {field.name for field in dataclasses.fields(config)}
    assert type(again.encoder.positions) is type(config.encoder.positions)


def test_it_cannot_be_changed_or_given_by_place() -> None:
    config = EncoderDecoderConfig.of(**SMALL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.d_model = 32  # type: ignore[misc]
    with pytest.raises(TypeError):
        EncoderDecoderConfig(50)  # type: ignore[misc]
    assert hash(config) == hash(EncoderDecoderConfig.of(**SMALL))


def test_unknown_fields_are_named() -> None:
    with pytest.raises(
        UserError, match=r"EncoderDecoderConfig has no field 'depth', 'n_embd'; its fields are vocab_size"
    ):
        EncoderDecoderConfig.from_dict({"vocab_size": 5, "n_embd": 3, "depth": 1})


def test_missing_fields_are_named() -> None:
    with pytest.raises(UserError, match="needs the field 'vocab_size'"):
        EncoderDecoderConfig.from_dict({"d_model": 16})


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("d_model", "8", "a whole number"),
        ("d_model", 8.0, "a whole number"),
        ("d_model", None, "a whole number"),
        ("n_heads", True, "a whole number"),
        ("pad_id", False, "a whole number"),
        ("target_vocab_size", "70", "a whole number"),
        ("n_kv_heads", True, "a whole number"),
        ("head_dim", 1.5, "a whole number"),
        ("dropout", "0.1", "a number"),
        ("dropout", None, "a number"),
        ("dropout", True, "a number"),
        ("bias", 1, "true or false"),
        ("gated", None, "true or false"),
        ("activation", None, "one of relu, .*"),
        ("norm", ["layernorm"], "one of layernorm, rmsnorm"),
    ],
)
def test_a_wrong_type_is_refused(field: str, value: object, expected: str) -> None:
    with pytest.raises(
        UserError, match=rf"Config\.{field} is .*, expected {expected}$|Spec\.\w+ is .*, expected {expected}$"
    ):
        EncoderDecoderConfig.of(**SMALL | {field: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "vocab_size is 0, expected at least 1"),
        ({"d_model": -16}, "d_model is -16, expected at least 1"),
        ({"n_heads": 0}, "n_heads is 0, expected at least 1"),
        ({"n_kv_heads": 0}, "n_kv_heads is 0, expected at least 1"),
        ({"n_decoder_layers": 0}, "n_layers is 0"),
        ({"max_seq_len": 0}, "max_seq_len is 0"),
        ({"dropout": 1.0}, "dropout is 1.0, expected at least 0 and less than 1"),
        ({"attention_dropout": -0.1}, "AttentionSpec.dropout is -0.1, expected at least 0 and less than 1"),
        ({"activation_dropout": float("nan")}, "FeedForwardSpec.dropout is nan"),
        ({"norm.eps": 0}, "LayerNormSpec.eps is 0, expected more than 0 and finite"),
        ({"norm.eps": -1e-5}, "LayerNormSpec.eps is -1e-05"),
        ({"norm.eps": float("nan")}, "LayerNormSpec.eps is nan"),
        ({"activation": "cos"}, "activation is 'cos', expected one of relu, relu_squared, gelu, gelu_tanh, quick_gelu"),
        ({"norm": "batchnorm"}, "norm: kind is 'batchnorm', expected one of layernorm, rmsnorm"),
        ({"norm_position": "middle"}, "one of post, pre"),
        ({"positions": "polar"}, "positions: kind is 'polar', expected one of learned, sinusoidal, rotary"),
        ({"positions": "rotary", "positions.dim": 3}, "positions.dim 3 must be even"),
        ({"positions": "relative", "positions.buckets": 3}, "positions.buckets 3 must be at least 4"),
        ({"positions": "relative", "positions.max_distance": 8}, "positions.max_distance 8 more than 8"),
        ({"positions.layout": "thirds"}, "one of interleaved, halves"),
        ({"share_embeddings": "encoder"}, "one of all, inputs, decoder, none"),
        ({"d_model": 18}, "d_model 18 is not a multiple of n_heads 4"),
        ({"n_kv_heads": 3}, "n_heads 4 is not a multiple of n_kv_heads 3"),
        ({"never_ids": (50,)}, "never_ids 50 is outside the vocabulary of 50"),
        ({"never_ids": (4, 3)}, "never_ids has eos_id, 3, without which no translation ends"),
        ({"pad_id": -1}, "pad_id -1 is outside the vocabulary of 50"),
        ({"eos_id": 50}, "eos_id 50 is outside the vocabulary of 50: ids run from 0 to 49"),
        (
            {"bos_id": 9, "target_vocab_size": 9, "share_embeddings": "none"},
            "bos_id 9 is outside the vocabulary of 9",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        EncoderDecoderConfig.of(**SMALL | changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("share", ["all", "decoder", "none"])
@pytest.mark.parametrize("target_vocab_size", [None, 50, 70])
def test_what_may_be_shared(share: str, target_vocab_size: int | None) -> None:
    fields = SMALL | {"share_embeddings": share, "target_vocab_size": target_vocab_size}
    if share == "all" and target_vocab_size == 70:
        with pytest.raises(UserError, match=r"'all' needs one vocabulary.*set share_embeddings to 'decoder' or 'none'"):
            EncoderDecoderConfig.of(**fields)
    else:
        assert EncoderDecoderConfig.of(**fields).share_embeddings == share


def test_it_needs_no_torch() -> None:
    """None in sys.modules makes every import of torch fail."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import transformer_zoo as tz\n"
        "from transformer_zoo.config import EncoderDecoderConfig\n"
        "print(tz.list_models('transformer-t*'), tz.get_config('transformer-big').d_model)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["['transformer-tiny']", "1024"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("decoder", "positions", "kind"), "os:system", "positions.kind is 'os:system', expected one of learned, "),
        (("decoder", "positions", "kind"), "sinusodal", "did you mean sinusoidal"),
        (("decoder", "positions", "module"), "os:system", "SinusoidalSpec has no field 'module'"),
        (("decoder", "layer", "ffn", "kind"), None, "ffn.kind is None, expected one of feedforward, mixture"),
        (("decoder", "layer", "ffn", "dff"), 3, "FeedForwardSpec has no field 'dff'; did you mean d_ff"),
        (("decoder", "layer"), 3, "StackSpec.layer is 3"),
        (("decoder",), None, "EncoderDecoderConfig.decoder is None"),
    ],
)
def test_a_file_names_a_kind_that_there_is_and_never_code(path: tuple[str, ...], value: Any, message: str) -> None:
    fields = EncoderDecoderConfig.of(**SMALL).to_dict()
    inside = fields
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] = value
    with pytest.raises(UserError, match=re.escape(message)):
        EncoderDecoderConfig.from_dict(fields)


def test_names_of_fields() -> None:
    """Short, of all stacks and layers, of one of them, and inside of parts."""
    config = EncoderDecoderConfig.of(
        **SMALL,
        positions="rotary",
        n_layers=2,
        **{"encoder.positions": "learned", "positions.base": 7.0, "ffn.bias": False},
    )
    assert config.encoder.positions == LearnedSpec()
    assert config.decoder.positions == RotarySpec(base=7.0)
    assert {value_at(config, f"{stack}.layer.ffn.bias") for stack in ("encoder", "decoder")} == {False}
    assert config.changed(norm="rmsnorm", **{"norm.eps": 0.1}).decoder.norm == RMSNormSpec(eps=0.1)
    assert config.changed(positions=RotarySpec(scaling=Llama3Spec(factor=2))).encoder.positions != LearnedSpec()
    with pytest.raises(UserError, match="no field 'n_head'; did you mean n_heads"):
        config.changed(n_head=3)
    with pytest.raises(UserError, match=r"positions\.bse: rotary has no field 'bse'; did you mean base"):
        config.changed(positions="rotary", **{"positions.bse": 3})


def test_layers_that_take_turns() -> None:
    near = LayerSpec(positions=RotarySpec(base=3.0))
    stack = StackSpec(n_layers=5, layer=(near, LayerSpec(), near, LayerSpec(), near), positions=RotarySpec())
    assert stack.layer == (near, LayerSpec())  # as many as differ
    assert [layer.positions == "stack" for layer in stack.layers] == [False, True, False, True, False]
    assert StackSpec(n_layers=3, layer=(near, near)).layer == near
    config = DecoderConfig.of(**SMALL, n_layers=4, positions="rotary", layer=[{}, {"positions": "none"}])
    assert [layer.positions for layer in config.decoder.layers] == ["stack", None, "stack", None]
    assert config.changed(n_layers=1).decoder.layer == config.decoder.layers[0]
    heads = config.changed(n_heads=2)
    assert {layer.attention.n_heads for layer in heads.decoder.layers} == {2}
    with pytest.raises(UserError, match="layers with other heads than the first cannot have alibi positions"):
        config.changed(positions="alibi", layer=[{}, {"attention": {"n_heads": 2}, "positions": "stack"}])
