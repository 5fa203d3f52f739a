"""What CTranslate2 can represent of a model: plain data, which needs neither torch nor that package."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any

from transformer_zoo.config import (
    AlibiSpec,
    AttentionSpec,
    DecoderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    FeedForwardSpec,
    LayerNormSpec,
    LayerSpec,
    LearnedSpec,
    ModelConfig,
    RelativeSpec,
    RMSNormSpec,
    RotarySpec,
    SinusoidalSpec,
    Spec,
    StackSpec,
    YarnSpec,
)
from transformer_zoo.errors import UserError

ACTIVATIONS = {
    "relu": "RELU", "gelu": "GELU", "gelu_tanh": "GELUTanh", "quick_gelu": "GELUSigmoid", "silu": "SWISH",
    "tanh": "Tanh", "sigmoid": "Sigmoid",
    "relu_squared": "RELU",  # which gates its own input: relu(x) x
}  # fmt: skip
"""Our names -> names in its enumeration."""


def _any(*names: str) -> dict[str, Collection[Any] | None]:
    return dict.fromkeys(names)


# The fields that it has of each spec, with the values if it has only some. It has other fields with their default
# values only. It does not have a spec without a row.
_SAID: dict[type[Spec], Mapping[str, Collection[Any] | None]] = {
    EncoderDecoderConfig: _any(
        "vocab_size", "d_model", "max_seq_len", "scale_embeddings", "logit_scale", "encoder", "decoder",
        "target_vocab_size", "share_embeddings", "logit_bias", "count_padding",
    ),
    DecoderConfig: _any(
        "vocab_size", "d_model", "max_seq_len", "scale_embeddings", "logit_scale", "decoder", "tie_embeddings",
        "d_embedding", "logit_bias", "logit_softcap", "vocab_multiple",
    ),
    EncoderConfig: _any(  # it has no such head: only hidden states come out
        "vocab_size", "d_model", "max_seq_len", "scale_embeddings", "encoder", "n_segments", "head", "tie_embeddings",
        "pooling", "normalize", "cut_at", "logit_scale",
    ),
    StackSpec: {
        **_any("n_layers", "layer", "positions", "norm", "final_norm", "embedding_norm", "residual_scale"),
        "norm_position": ("post", "pre", "both", "parallel", "parallel_shared"),
    },
    LayerSpec: _any("attention", "ffn", "positions"),
    AttentionSpec: _any("n_heads", "n_kv_heads", "head_dim", "bias", "qkv_bias", "scale", "qk_norm", "window"),
    FeedForwardSpec: {**_any("d_ff", "gated", "bias"), "activation": ACTIVATIONS},
    LayerNormSpec: _any("eps", "learned", "unit_offset"),
    RMSNormSpec: _any("eps", "learned", "unit_offset"),
    SinusoidalSpec: _any("layout", "offset"),
    LearnedSpec: _any("offset"),
    RotarySpec: _any("base", "dim", "layout", "scaling"),
    RelativeSpec: _any("buckets", "max_distance"),
    AlibiSpec: {},
}  # fmt: skip
_NO_MATTER = ("dropout", "init", "zero_pad", "rules")  # they change training, or are its own options
_AROUND = ("encoder", "decoder", "layer")


def check_ctranslate2(config: ModelConfig) -> None:
    """Check that CTranslate2 has such a model.
    >>> check_ctranslate2(tz.get_config("transformer-base", norm_position="pre"))

    Raises:
        UserError: it has not; the message names the fields.
    """
    if type(config) not in _SAID:
        raise UserError(f"ctranslate2 has no counterpart of a model of {type(config).__name__}")
    found: dict[str, Any] = {}
    for address, value in [*_unsaid(config), *_unsaid_together(config)]:
        found.setdefault(".".join(word for word in address.split(".") if word not in _AROUND), value)
    if found:
        named = ", ".join(f"{name} {value!r}" for name, value in found.items())
        raise UserError(f"ctranslate2 has no counterpart of {named}")


def _unsaid(spec: Spec, where: str = "") -> Iterator[tuple[str, Any]]:
    """The fields that it does not have, by their addresses, and their values."""
    if (known := _SAID.get(type(spec))) is None:
        yield where, spec.kind()
        return
    for field in fields(spec):
        value, address = getattr(spec, field.name), f"{where}.{field.name}".lstrip(".")
        if field.name in _NO_MATTER or field.name.endswith(("_id", "_ids")):
            continue
        allowed = known.get(field.name, (field.default,))
        if allowed is not None and value not in allowed:
            yield address, value
        if field.name in known and field.name not in ("scaling", "head"):  # of which it has any, or needs none
            for part in dict.fromkeys(value if isinstance(value, tuple) else (value,)):
                if isinstance(part, Spec):
                    yield from _unsaid(part, address)


def _unsaid_together(config: ModelConfig) -> Iterator[tuple[str, Any]]:
    """Fields that it has, but not several parts of at once, or not at that place."""
    stacks = dict(config.stacks())
    eps = next(iter(stacks.values())).norm.eps
    if getattr(config, "logit_softcap", None) and getattr(config, "never_ids", None):
        yield "never_ids", "beside logit_softcap"
    for name, stack in stacks.items():
        if stack.norm.eps != eps:
            yield "norm.eps", stack.norm.eps
        if (len(stacks) > 1 or name == "encoder") and stack.norm_position not in ("post", "pre"):
            yield "norm_position", stack.norm_position
        if stack.residual_scale is not None and stack.norm_position == "both":  # it adds them directly after a norm
            yield "residual_scale", stack.residual_scale
        if name == "encoder" and isinstance(stack.positions, AlibiSpec):
            yield "encoder.positions", "alibi"
        if len(stacks) == 1 and isinstance(stack.positions, RelativeSpec) and name == "decoder":
            yield "positions", "relative"  # they are wrong if it reads several tokens of a prompt at once
        for layer in dict.fromkeys(stack.layers):
            yield from _unsaid_of(layer, stack, config)


def _unsaid_of(layer: LayerSpec, stack: StackSpec, config: ModelConfig) -> Iterator[tuple[str, Any]]:
    attention, ffn, first = layer.attention, layer.ffn, stack.layers[0]
    if attention.n_heads != first.attention.n_heads:
        yield "attention.n_heads", attention.n_heads
    if isinstance(attention, AttentionSpec) and attention.qk_norm and attention.qk_norm.eps != stack.norm.eps:
        yield "attention.qk_norm.eps", attention.qk_norm.eps
    if (beside := _beside_window(layer, stack)) is not None:
        yield "attention.window", f"{attention.window} beside {beside}"
    if isinstance(ffn, FeedForwardSpec):
        if isinstance(first.ffn, FeedForwardSpec) and ffn.activation != first.ffn.activation:
            yield "ffn.activation", ffn.activation
        if ffn.gated and ffn.activation == "relu_squared":
            yield "ffn.gated", True
    if isinstance(layer.positions, RelativeSpec):  # it computes the first layer's scores for all
        yield "layer.positions", "relative"
    rotary = stack.positions_of(layer)
    is_yarn = isinstance(rotary, RotarySpec) and isinstance(rotary.scaling, YarnSpec)
    if is_yarn and getattr(rotary, "dim", None) not in (None, attention.width(config.d_model)):
        yield "positions.dim", getattr(rotary, "dim", None)  # all scores grow together


def _beside_window(layer: LayerSpec, stack: StackSpec) -> str | None:
    """What it does not have together with the window of a layer; see `_window` in write.py."""
    attention, positions = layer.attention, stack.positions
    if attention.window is None:
        return None
    if getattr(attention, "qk_norm", None) is not None:
        return "qk_norm"
    if isinstance(positions, RelativeSpec):
        return "relative positions"
    if positions is not None and positions.added and layer == stack.layers[0]:  # where it looks for how it counts
        return f"{positions.kind()} positions in the first layer"
    return None
