"""Fields by name: short names, and the addresses of fields inside specs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from transformer_zoo.config.layer import LayerSpec, StackSpec
from transformer_zoo.config.positions import RotarySpec
from transformer_zoo.config.spec import Spec, choices_of, class_of, kinds_of
from transformer_zoo.errors import UserError, naming
from transformer_zoo.words import did_you_mean

SHORT: dict[str, tuple[str, ...]] = {
    "n_layers": ("*.n_layers",),
    "n_encoder_layers": ("encoder.n_layers",),
    "n_decoder_layers": ("decoder.n_layers",),
    "n_heads": ("*.layer.attention.n_heads",),
    "n_kv_heads": ("*.layer.attention.n_kv_heads",),
    "head_dim": ("*.layer.attention.head_dim",),
    "d_ff": ("*.layer.ffn.d_ff",),
    "activation": ("*.layer.ffn.activation",),
    "gated": ("*.layer.ffn.gated",),
    "bias": ("*.layer.attention.bias", "*.layer.ffn.bias"),
    "attention_dropout": ("*.layer.attention.dropout",),
    "activation_dropout": ("*.layer.ffn.dropout",),
    "sliding_window": ("*.layer.attention.window",),
    "positions": ("*.positions",),
    "norm": ("*.norm",),
    "norm_position": ("*.norm_position",),
}
"""Fields that are often changed, and their addresses: "*" is each stack."""

Tree = dict[str, Any]
"""A spec in the form that `to_dict` gives."""


class _Absent(UserError):
    """The configuration has no such field."""


def stacks_of(model: type[Spec]) -> list[str]:
    """The fields of a model that are stacks of layers."""
    return [name for name, hint in model.hints().items() if hint is StackSpec]


def short_names(model: type[Spec]) -> dict[str, tuple[str, ...]]:
    """The names of `SHORT` that a model has."""
    return {name: paths for name, paths in SHORT.items() if paths[0].partition(".")[0] in ("*", *stacks_of(model))}


def addresses_of(model: type[Spec], name: str) -> list[list[str]]:
    """The addresses of the fields of this name in a model's configuration. UserError: there is none."""
    head, dot, rest = name.partition(".")
    places: dict[str, tuple[str, ...]] = {field: (f"*.layer.{field}",) for field in LayerSpec.hints()}
    places |= {field: (f"*.{field}",) for field in StackSpec.hints()} | short_names(model)
    places |= {field: (field,) for field in model.hints()}
    if head not in places:
        near = did_you_mean(name, places, f"; there are {', '.join(reversed(places))}")
        raise UserError(f"{model.__name__} has no field {name!r}{near}")
    every = [path.replace("*", stack) for path in places[head] for stack in (stacks_of(model) if "*" in path else [""])]
    return [(path + dot + rest).split(".") for path in every]


def value_at(config: Spec, name: str) -> Any:
    """The value of the field of this name; if there are several, of the first."""
    value: Any = config
    for part in addresses_of(type(config), name)[0]:
        value = getattr(value[0] if isinstance(value, tuple) else value, part, None)
    return value


def defaults_of(spec: type[Spec]) -> Tree:
    """The values of fields that nobody gives."""
    given = {f.name: f.default for f in dataclasses.fields(spec) if f.default is not dataclasses.MISSING}
    return {name: value.to_dict() if isinstance(value, Spec) else value for name, value in given.items()}


def changed_fields(model: type[Spec], tree: Tree, changes: Mapping[str, Any]) -> Tree:
    """The tree of a model with these fields changed. A short name comes before a field of that name inside a spec.

    Raises:
        UserError: as for `ModelConfig.changed`.
    """
    for name in sorted(changes, key=lambda name: (name.count("."), not name.endswith(".kind"))):
        found, absent = 0, None
        for address in addresses_of(model, name):
            try:
                with naming(name):
                    tree, found = _set(model, tree, address, changes[name]), found + 1
            except _Absent as error:
                absent = absent or error
        if absent is not None and not found:
            raise absent
    if any(name.rpartition(".")[2] == "layer" for name in changes):
        return tree
    if "positions" in changes:
        for stack in stacks_of(model):
            tree = {**tree, stack: _without_rotation(tree[stack], changes)}
    for stack in stacks_of(model):
        layer, n_layers = tree[stack]["layer"], tree[stack]["n_layers"]
        if isinstance(layer, list) and isinstance(n_layers, int):  # fewer layers than took turns
            tree = {**tree, stack: {**tree[stack], "layer": layer[: max(n_layers, 1)]}}
    return tree


def _without_rotation(stack: Tree, changes: Mapping[str, Any]) -> Tree:
    """The tree of a stack. If its new positions are not rotary, what its layers said of rotation is forgotten, unless
    it is among the changes."""
    positions = stack["positions"]
    if positions is not None and class_of(StackSpec.hints()["positions"], positions["kind"]) is RotarySpec:
        return stack
    layers = stack["layer"] if isinstance(stack["layer"], list) else [stack["layer"]]
    forgotten = []
    for layer in layers:
        if layer.get("positions", "") is None and "layer.positions" not in changes:
            layer = {name: value for name, value in layer.items() if name != "positions"}
        if layer["attention"].get("qk_norm_after_rotation") and "attention.qk_norm_after_rotation" not in changes:
            layer = {**layer, "attention": {**layer["attention"], "qk_norm_after_rotation": False}}
        forgotten.append(layer)
    return {**stack, "layer": forgotten if isinstance(stack["layer"], list) else forgotten[0]}


def _set(hint: Any, tree: Any, address: list[str], value: Any) -> Any:
    """A plain value of this type in which the value at the address is replaced."""
    if not address:
        return _new(hint, tree, value)
    if isinstance(tree, list | tuple):
        return _set_in_all(hint, tree, address, value)
    head, *rest = address
    if head == "kind":
        return _new(hint, tree, value)
    if tree is None:
        tree = class_of(hint, None)().to_dict()
    if not isinstance(tree, Mapping):
        raise _Absent(f"{tree!r} has no field {head!r}")
    spec = class_of(hint, tree.get("kind"))
    if head not in (hints := spec.hints()):
        raise _Absent(f"{spec.kind()} has no field {head!r}{did_you_mean(head, hints)}")
    return {**tree, head: _set(hints[head], tree.get(head), rest, value)}


def _set_in_all(hint: Any, trees: list[Any] | tuple[Any, ...], address: list[str], value: Any) -> list[Any]:
    made, absent = [], []
    for tree in trees:
        try:
            made.append(_set(hint, tree, address, value))
        except _Absent as error:
            made.append(tree)
            absent.append(error)
    if len(absent) == len(made):
        raise absent[0]
    return made


def _new(hint: Any, old: Any, value: Any) -> Any:
    """The given value of a field, as plain data."""
    if isinstance(value, Spec):
        return value.to_dict()
    if not kinds_of(hint) or value in choices_of(hint):
        return value
    if isinstance(value, tuple | list):
        turns = old if isinstance(old, list) else [old]  # each becomes what it was, with these changes
        return [_new(hint, turns[i % len(turns)], one) for i, one in enumerate(value)]
    if isinstance(value, Mapping):
        for name in sorted(value, key=lambda name: name != "kind"):
            old = _set(hint, old, [name], value[name])
        return old
    if value == "none" or not isinstance(value, str):
        return None if value == "none" else value
    spec = class_of(hint, value)
    kept = [field.name for field in dataclasses.fields(spec.__base__)]  # type: ignore[arg-type]  # what all kinds have
    return spec.from_dict({name: old[name] for name in kept if name in (old or ())}).to_dict()


def hint_of(model: type[Spec], name: str) -> Any:
    """The type of the field of this name; if several kinds of spec have one, the type in the first."""
    hint: Any = model
    for part in addresses_of(model, name)[0]:
        found = [spec.hints()[part] for spec in kinds_of(hint).values() if part in spec.hints()]
        if not found:
            raise UserError(f"{name}: there is no field {part!r}")
        hint = found[0]
    return hint
