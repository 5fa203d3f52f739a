"""Rotary positions in config.json: rope_theta, rope_scaling and their many forms."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from transformer_zoo.config import DecoderConfig, LinearSpec, Llama3Spec, RotarySpec, YarnSpec
from transformer_zoo.config.positions import ScalingSpec
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.family import Fields, Part, Types, check_types
from transformer_zoo.zoo.huggingface.parts import layer_types, read_windows, window_of


def rotation(
    *,
    base: str = "rope_theta",
    fraction: str | None = None,
    default_fraction: float = 1.0,
    default: float = 10000.0,
    layout: Literal["halves", "interleaved"] = "halves",
    scalings: tuple[str, ...] = ("linear", "llama3", "yarn"),
) -> Part:
    """Rotary positions. Their place in config.json has changed: `rope_theta` and `rope_scaling`, or everything in
    `rope_parameters`.

    base, default: their name of the base outside of these, and its default value.
    fraction: their name of dim / head_dim outside of these; None: there is none.
    layout: which dimensions are rotated together.
    scalings: the ways to longer inputs that it has.
    """
    types = {"rope_scaling": dict, "rope_parameters": dict, base: float, **({fraction: float} if fraction else {})}

    def read(theirs: Fields, ours: Fields) -> dict[str, Any]:
        rope = {base: theirs.get(base, default), **(theirs.get("rope_scaling") or theirs.get("rope_parameters") or {})}
        rope.setdefault("rope_theta", rope.pop(base))
        if fraction:
            rope.setdefault("partial_rotary_factor", theirs.get(fraction, default_fraction))
        elif rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise UserError(
                f"config.json: partial_rotary_factor is {rope['partial_rotary_factor']!r}; only 1.0 is supported"
            )
        rotary = replace(read_rope(rope, ours), layout=layout)
        if rotary.scaling is not None and (kind := rotary.scaling.kind()) not in scalings:
            known = ", ".join(["default", *scalings])
            raise UserError(f"config.json: rope_type is {kind!r}, which is not supported for this family; {known} are")
        return {"positions": rotary}

    def write(config: DecoderConfig) -> dict[str, Any]:
        if not isinstance(rotary := config.decoder.positions, RotarySpec):
            return {}
        theirs: dict[str, Any] = {base: rotary.base, "rope_scaling": write_scaling(rotary.scaling)}
        if fraction:
            head_dim = config.decoder.layers[0].attention.width(config.d_model)
            turned = rotary.dim or head_dim
            part = turned / head_dim
            theirs[fraction] = part if int(head_dim * part) == turned else math.nextafter(part, 2)
        return theirs

    return Part(types, read, write, limits=("rope_type", *(() if fraction else ("partial_rotary_factor",))))


def rotations_and_windows(
    bases: Mapping[str, float], *, each: int, near: str | None = None, pattern: str | None = None
) -> Part:
    """Windows and rotations of a stack with two kinds of layers, as in Gemma 3.

    One in every few layers sees all and the others have a sliding window, or as layer_types says. Each kind has its own
    rotation in rope_parameters. The first files have separate fields for it, and their rope_scaling is for the layers
    that see all.

    bases: the default base of each kind.
    each: number of layers to one that sees all; pattern: their name for this number.
    near: their name for the base of the layers with a window, in files with separate fields.
    """
    far = "full_attention"

    def read(theirs: Fields, ours: Fields) -> dict[str, Any]:
        every = theirs.get(pattern or "", each)
        types = theirs.get("layer_types") or [
            "sliding_attention" if (i + 1) % every else far for i in range(ours["n_layers"])
        ]
        found = read_windows(types, theirs.get("sliding_window", 4096), ours["n_layers"])
        spread = {kind: {"rope_theta": theirs.get(near or "", base)} for kind, base in bases.items()}
        spread[far] = {"rope_theta": theirs.get("rope_theta", bases[far]), **(theirs.get("rope_scaling") or {})}
        ropes = theirs.get("rope_parameters") or spread
        if ropes.keys() != bases.keys():
            raise UserError(f"config.json: rope_parameters has {', '.join(ropes)}, expected {', '.join(bases)}")
        # transformers does not read yarn's `truncate` if there are several kinds: it is true.
        rotary = {
            kind: read_rope({"rope_theta": bases[kind], **rope, "truncate": True}, ours) for kind, rope in ropes.items()
        }
        for layer, kind in zip(found["layer"], types, strict=True):
            layer["positions"] = "stack" if kind == far else rotary[kind]
        return {**found, "positions": rotary[far]}

    def write(config: DecoderConfig) -> dict[str, Any]:
        types = layer_types(config)
        ropes: dict[str, Any] = {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()}
        for kind, rotary in zip(types, map(config.decoder.positions_of, config.decoder.layers), strict=True):
            if isinstance(rotary, RotarySpec):
                ropes[kind] = {**ropes[kind], "rope_theta": rotary.base, **(write_scaling(rotary.scaling) or {})}
        return {"sliding_window": window_of(config) or 4096, "layer_types": types, "rope_parameters": ropes}

    types: dict[str, Any] = {"layer_types": list, **dict.fromkeys(("rope_parameters", "rope_scaling"), dict)}
    types |= {"rope_theta": float, **({near: float} if near else {})}
    types |= dict.fromkeys(("sliding_window", *([pattern] if pattern else ())), int)
    return Part(types, read, write, limits=("rope_type",))


def read_rope(rope: Fields, ours: Fields) -> RotarySpec:
    """Rotary positions from the fields of rope_parameters."""
    check_types(rope, _ROPE)
    rope = dict(rope)
    kind = rope.pop("rope_type", rope.get("type", "default"))
    rope.pop("type", None)
    base = float(rope.pop("rope_theta"))
    head_dim = ours.get("head_dim") or ours["d_model"] // ours["n_heads"]
    turned = int(head_dim * rope.pop("partial_rotary_factor", 1.0))
    if turned % 2 and turned < head_dim and kind != "yarn":  # one more is rotated, at the frequencies of this many
        base **= (turned + 1) / turned
        turned += 1
    return RotarySpec(base=base, dim=turned if turned != head_dim else None, scaling=_read_scaling(kind, rope, ours))


_ORIGINAL = "original_max_position_embeddings"
SCALING: dict[str, tuple[type[ScalingSpec], tuple[str, ...]]] = {
    "linear": (LinearSpec, ("factor",)),
    "llama3": (Llama3Spec, ("factor", "low_freq_factor", "high_freq_factor", _ORIGINAL)),
    "yarn": (YarnSpec, ("factor", _ORIGINAL, "beta_fast", "beta_slow", "truncate", "attention_factor")),
}
"""Their kinds of scaling: our kind, and the fields of theirs. All except one have our names."""

_TYPES: dict[str, type] = {**dict.fromkeys((name for _, names in SCALING.values() for name in names), float)}
_TYPES |= {_ORIGINAL: int, "truncate": bool}
_ROPE: Types = {
    **_TYPES,
    **dict.fromkeys(("rope_type", "type"), str),
    **dict.fromkeys(("rope_theta", "partial_rotary_factor", "mscale", "mscale_all_dim"), float),
}


def _read_scaling(kind: str, rope: Fields, ours: Fields) -> ScalingSpec | None:
    """How frequencies change. Fields that a kind does not use are allowed."""
    if kind not in ("default", *SCALING):
        known, why = ", ".join(["default", *SCALING]), ""
        if kind in ("dynamic", "longrope"):
            why = " (its frequencies change with the longest text of a batch, and what is in a cache would not fit)"
        raise UserError(f"config.json: rope_type is {kind!r}, which is not supported{why}; {known} are")
    if unknown := sorted(set(rope) - set(_TYPES) - {"mscale", "mscale_all_dim"}):
        raise UserError(f"config.json: rope_scaling has {', '.join(unknown)}, which is not known")
    if kind == "default":
        return None
    spec, names = SCALING[kind]
    values = {name: value for name, value in rope.items() if value is not None}
    if _ORIGINAL in names:
        values.setdefault(_ORIGINAL, ours["max_seq_len"])
    if kind == "yarn":
        values = _complete_yarn(values, ours) | {"truncate": bool(rope.get("truncate", True))}  # null is false
    if missing := [name for name in names if name not in values]:
        raise UserError(f"config.json: rope_scaling of type {kind} needs {', '.join(missing)}")
    ours_of = {_ORIGINAL: "original_max_seq_len"}
    read = {name: None if values[name] is None else _TYPES[name](values[name]) for name in names}
    return spec.from_dict({ours_of.get(name, name): value for name, value in read.items()})


def _complete_yarn(values: dict[str, Any], ours: Fields) -> dict[str, Any]:
    """The fields with their default values."""
    values.setdefault("factor", ours["max_seq_len"] / values[_ORIGINAL])
    scale, of_all = values.get("mscale"), values.get("mscale_all_dim")
    if "attention_factor" not in values and scale and of_all:
        slope = 0.1 * math.log(max(values["factor"], 1.0))
        values["attention_factor"] = (slope * scale + 1) / (slope * of_all + 1)
    betas = {name: values.get(name) or default for name, default in {"beta_fast": 32.0, "beta_slow": 1.0}.items()}
    return {"attention_factor": None, **values, **betas}


def write_scaling(scaling: ScalingSpec | None) -> dict[str, Any] | None:
    """Their form of it, null for none."""
    if scaling is None:
        return None
    fields = {**scaling.to_dict(), "kind": None, "original_max_seq_len": None}
    fields[_ORIGINAL] = getattr(scaling, "original_max_seq_len", None)
    return {"rope_type": scaling.kind(), **{name: value for name, value in fields.items() if value is not None}}
