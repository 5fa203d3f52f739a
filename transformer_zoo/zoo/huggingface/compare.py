"""Which fields of two configurations give different computations."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from transformer_zoo.config import (
    AttentionSpec,
    DecoderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    LayerSpec,
    ModelConfig,
    RotarySpec,
    StackSpec,
    YarnSpec,
)

# They change only training or initialisation, or belong to the tokenizer.
_NO_MATTER = (
    "dropout",
    "init",
    "zero_pad",
    "rows",
    "source_end_id",
    "kind",
)
_OF_TEXTS = ("mask_id", "pooling", "normalize", "cut_at")  # of an encoder: how its hidden states are used


def spelling(config: ModelConfig) -> dict[str, Any]:
    """The fields that decide what a model computes, by address, each in one form; "kind" is that of a spec."""
    fields = {**config.to_dict(), **{name: _spelled_stack(stack, config) for name, stack in config.stacks()}}
    fields["logit_scale"] = config.logit_factor
    fields.pop("rules", None)
    if config.longest_input > config.max_seq_len:
        del fields["max_seq_len"]
    if isinstance(config, DecoderConfig):
        del fields["pad_id"]
    if isinstance(config, EncoderConfig):
        fields = {name: value for name, value in fields.items() if name not in _OF_TEXTS}
    if isinstance(config, EncoderDecoderConfig):
        fields["target_vocab_size"] = config.target_size
        if not any(stack.positions is not None and stack.positions.added for _, stack in config.stacks()):
            del fields["count_padding"]
    return dict(_flat("", fields))


def _spelled_stack(stack: StackSpec, config: ModelConfig) -> dict[str, Any]:
    layers = {str(i): _spelled_layer(stack, layer, config) for i, layer in enumerate(stack.layers)}
    plain = {**stack.to_dict(), "final_norm": stack.ends_in_norm, "layer": layers}
    if isinstance(stack.positions, RotarySpec):  # which the layers have
        del plain["positions"]
    return plain


def _spelled_layer(stack: StackSpec, layer: LayerSpec, config: ModelConfig) -> dict[str, Any]:
    attention, positions = layer.attention, stack.positions_of(layer)
    width = attention.width(config.d_model)
    if isinstance(attention, AttentionSpec):
        attention = replace(
            attention,
            n_kv_heads=attention.n_kv_heads or attention.n_heads,
            head_dim=width,
            scale=attention.scale or width**-0.5,
            qkv_bias=attention.bias if attention.qkv_bias is None else attention.qkv_bias,
        )
    if isinstance(positions, RotarySpec):
        if isinstance(scaling := positions.scaling, YarnSpec) and scaling.attention_factor is None:
            scaling = replace(scaling, attention_factor=0.1 * math.log(max(scaling.factor, 1.0)) + 1)
        positions = replace(positions, dim=positions.dim or width, scaling=scaling)
    return replace(layer, attention=attention).to_dict() | {
        "positions": None if positions is None else positions.to_dict()
    }


def _flat(address: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every field by its address; a spec also has its kind."""
    if not isinstance(value, Mapping):
        yield address, value
        return
    if "kind" in value:
        yield address, value["kind"]
    for name, inner in value.items():
        if name not in _NO_MATTER:
            yield from _flat(f"{address}.{name}".lstrip("."), inner)


def differences(ours: ModelConfig, theirs: ModelConfig) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, and both values. A bias that only the other side has is zero, and makes no difference.

    If layers differ in the same way, the first one is named.
    """
    a, b = spelling(ours), spelling(theirs)
    found: dict[str, tuple[Any, Any]] = {}
    for address in {**a, **b}:
        mine, other = a.get(address), b.get(address)
        name = ".".join(word for word in address.split(".") if not word.isdigit() and word not in _AROUND)
        if not _same(mine, other) and not _is_filled(address, mine, other):
            found.setdefault(name, (mine, other))
    return found


_AROUND = ("encoder", "decoder", "layer")


def _is_filled(address: str, ours: Any, theirs: Any) -> bool:
    """Whether only the other side has a vector to add, which is zero for ours."""
    last = address.rpartition(".")[2]
    if last == "learned":
        return bool(ours == "weight" and theirs == "weight and bias")
    return last in ("bias", "qkv_bias", "logit_bias") and theirs is True


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float | int) and not isinstance(b, bool):
        return math.isclose(a, b, rel_tol=1e-9)
    return bool(a == b)
