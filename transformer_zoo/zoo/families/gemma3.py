"""Gemma 3, for text: five layers with a sliding window, then one that sees all; each kind has its own rotation."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig, RMSNormSpec, RotarySpec
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families.gemma import GEMMA, GEMMA2
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part
from transformer_zoo.zoo.huggingface.parts import layer_types, read_windows, text_ids, window_of
from transformer_zoo.zoo.huggingface.rope import read_rope, write_scaling

_BASES = {"full_attention": 1e6, "sliding_attention": 1e4}


def _read_rotary(theirs: Fields, ours: Fields) -> dict[str, RotarySpec]:
    """The positions of both kinds of layers: in rope_parameters, or in separate fields in the first files."""
    ropes = theirs.get("rope_parameters") or {
        "full_attention": {"rope_theta": theirs.get("rope_theta", 1e6), **(theirs.get("rope_scaling") or {})},
        "sliding_attention": {"rope_theta": theirs.get("rope_local_base_freq", 1e4)},
    }
    if ropes.keys() != _BASES.keys():
        raise UserError(f"config.json: rope_parameters has {', '.join(ropes)}, expected {', '.join(_BASES)}")
    # transformers does not read yarn's `truncate` if there are several kinds: it is true.
    return {
        kind: read_rope({"rope_theta": _BASES[kind], **rope, "truncate": True}, ours) for kind, rope in ropes.items()
    }


def _read_layers(theirs: Fields, ours: Fields) -> dict[str, Any]:
    each = theirs.get("sliding_window_pattern", 6)
    types = theirs.get("layer_types") or [
        "sliding_attention" if (i + 1) % each else "full_attention" for i in range(ours["n_layers"])
    ]
    found = read_windows(types, theirs.get("sliding_window", 4096), ours["n_layers"])
    rotary = _read_rotary(theirs, ours)
    for layer, kind in zip(found["layer"], types, strict=True):
        layer["positions"] = "stack" if kind == "full_attention" else rotary[kind]
    return {**found, "positions": rotary["full_attention"]}


def _write_layers(config: DecoderConfig) -> dict[str, Any]:
    rotations = dict(zip(layer_types(config), map(config.decoder.positions_of, config.decoder.layers), strict=True))
    ropes: dict[str, Any] = {kind: {"rope_type": "default", "rope_theta": base} for kind, base in _BASES.items()}
    for kind, rotary in rotations.items():
        if isinstance(rotary, RotarySpec):
            ropes[kind] = {**ropes[kind], "rope_theta": rotary.base, **(write_scaling(rotary.scaling) or {})}
    types = layer_types(config)
    return {"sliding_window": window_of(config) or 4096, "layer_types": types, "rope_parameters": ropes}


def _size(n_layers: int, d_model: int, n_heads: int, n_kv_heads: int, d_ff: int, window: int) -> dict[str, Any]:
    """Gemma Team 2025, "Gemma 3 Technical Report", Table 1."""
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "n_kv_heads": n_kv_heads, "d_ff": d_ff}
    local = {"attention": {"window": window}, "positions": RotarySpec(base=1e4)}
    ids = {"vocab_size": 262144, "pad_id": 0, "bos_id": 2, "eos_id": 1}
    return {
        **shape, **ids, "head_dim": 256, "max_seq_len": 32768, "positions.base": 1e6, "layer": [local] * 5 + [{}],
        "norm.eps": 1e-6, "attention.qk_norm.eps": 1e-6,
    }  # fmt: skip


GEMMA3 = replace(
    GEMMA2,
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    constants={**GEMMA.constants, "norm_position": "both", "attention.qk_norm": RMSNormSpec(unit_offset=True)},
    sizes={
        "gemma-3-270m": _size(18, 640, 4, 1, 2048, 512),
        "gemma-3-1b": _size(26, 1152, 4, 1, 6912, 512),
    },
    fields={
        **{name: entry for name, entry in GEMMA2.fields.items() if name != "attention.softcap"},
        "vocab_size": Field("vocab_size", 262208),
        "max_seq_len": Field("max_position_embeddings", 131072),
        "logit_softcap": Field("final_logit_softcapping", None, kind=float),
        "attention.qk_norm.eps": Field("rms_norm_eps", 1e-6),
    },
    parts=(
        *(part for part in GEMMA2.parts if "query_pre_attn_scalar" in part.names),
        Part(
            {
                "sliding_window": int, "layer_types": list, "sliding_window_pattern": int, "rope_parameters": dict,
                "rope_scaling": dict, "rope_theta": float, "rope_local_base_freq": float,
            },
            _read_layers,
            _write_layers,
        ),
        text_ids(bos=2, eos=1, pad=0),
    ),
    required={**GEMMA2.required, "attn_logit_softcapping": (None,)},  # which transformers reads and does not use
)  # fmt: skip
"""Gemma Team 2025, "Gemma 3 Technical Report"."""

FAMILIES = (GEMMA3,)
