"""SmolLM3: Llama whose every fourth layer has no positions."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families.llama import LLAMA, LLAMA2
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, layer_types, read_windows, text_ids, window_of
from transformer_zoo.zoo.huggingface.rope import rotation


def _read_layers(theirs: Fields, ours: Fields) -> dict[str, Any]:
    """Layers with and without positions. Those without have the window, unless layer_types says otherwise."""
    every, n_layers, window = theirs.get("no_rope_layer_interval", 4), ours["n_layers"], theirs.get("sliding_window")
    turned = theirs.get("no_rope_layers") or [(i + 1) % every for i in range(n_layers)]
    if len(turned) < n_layers:
        raise UserError(f"config.json: no_rope_layers has {len(turned)} layers of {n_layers}")
    far = "sliding_attention" if theirs.get("use_sliding_window") and window is not None else "full_attention"
    types = theirs.get("layer_types") or ["full_attention" if turns else far for turns in turned[:n_layers]]
    found = read_windows(types, window, n_layers)
    for layer, turns in zip(found["layer"], turned, strict=False):
        if not turns:
            layer["positions"] = None
    return found


def _write_layers(config: DecoderConfig) -> dict[str, Any]:
    window = window_of(config)
    return {
        "no_rope_layers": [int(layer.positions is not None) for layer in config.decoder.layers],
        "layer_types": layer_types(config),
        "sliding_window": window,
        "use_sliding_window": window is not None,
    }


SMOLLM3 = replace(
    LLAMA,
    model_type="smollm3",
    architecture="SmolLM3ForCausalLM",
    sizes={
        # Bakouch et al. 2025, "SmolLM3: smol, multilingual, long-context reasoner"; HuggingFaceTB/SmolLM3-3B.
        "smollm3-3b": {
            **LLAMA2, "vocab_size": 128256, "d_model": 2048, "n_heads": 16, "n_kv_heads": 4, "n_layers": 36,
            "max_seq_len": 65536, "norm.eps": 1e-6, "positions.base": 5e6, "layer": [{}] * 3 + [{"positions": None}],
            "tie_embeddings": True, "pad_id": 128004, "bos_id": None, "eos_id": 128012,
        },
    },
    fields={
        **LLAMA.fields,
        "vocab_size": Field("vocab_size", 128256),
        "d_model": Field("hidden_size", 2048),
        "n_heads": Field("num_attention_heads", 16),
        "n_kv_heads": Field("num_key_value_heads", 4),
        "n_layers": Field("num_hidden_layers", 36),
        "max_seq_len": Field("max_position_embeddings", 32768),
        "tie_embeddings": Field("tie_word_embeddings", True),
    },
    parts=(
        rotation(default=2e6),
        Part(
            {
                "no_rope_layers": list, "no_rope_layer_interval": int, "layer_types": list, "sliding_window": int,
                "use_sliding_window": bool,
            },
            _read_layers,
            _write_layers,
        ),
        text_ids(bos=128000, eos=128001, pad=128004),
    ),
    required=TEXT_ONLY,
    ignored=("max_window_layers",),  # transformers does not read it
)  # fmt: skip
"""Bakouch et al. 2025."""

FAMILIES = (SMOLLM3,)
