"""EXAONE 4: norms after sublayers and over heads; in a model with windows, the layers without one have no positions."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig, Llama3Spec
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.families.mistral import SHAPE
from transformer_zoo.zoo.families.olmo import NORMS_OUT
from transformer_zoo.zoo.huggingface.family import Field, Fields
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, alternating_window, far_unturned, text_ids, window_of
from transformer_zoo.zoo.huggingface.rope import rotation

_WINDOWS = alternating_window(4, pattern=True)


def _read_layers(theirs: Fields, ours: Fields) -> dict[str, Any]:
    found = _WINDOWS.read(theirs, ours)
    return found if theirs.get("sliding_window", 4096) is None else far_unturned(found)


def _write_layers(config: DecoderConfig) -> dict[str, Any]:
    turn = any(layer.positions is not None for layer in config.decoder.layers)
    return {**_WINDOWS.write(config), "sliding_window": window_of(config) or (None if turn else 4096)}


EXAONE4 = replace(
    LLAMA,
    model_type="exaone4",
    architecture="Exaone4ForCausalLM",
    constants={**LLAMA.constants, "norm_position": "out", "attention.qk_norm": "rmsnorm"},
    sizes={
        # LG AI Research 2025, "EXAONE 4.0: Unified Large Language Models"; LGAI-EXAONE/EXAONE-4.0-32B.
        "exaone-4.0-32b": {
            "vocab_size": 102400, "d_model": 5120, "n_heads": 40, "n_kv_heads": 8, "d_ff": 27392, "n_layers": 64,
            "max_seq_len": 131072, "positions.base": 1e6, "positions.scaling": Llama3Spec(factor=16.0),
            "layer": [{"attention": {"window": 4096}}] * 3 + [{"positions": None}], "pad_id": 0, "bos_id": 1,
            "eos_id": 361,
        },
    },
    fields={
        **SHAPE,
        "vocab_size": Field("vocab_size", 102400),
        "n_kv_heads": Field("num_key_value_heads", 32),
        "d_ff": Field("intermediate_size", 16384),
        "norm.eps": Field("rms_norm_eps", 1e-5),
        "attention.qk_norm.eps": Field("rms_norm_eps", 1e-5),
    },
    parts=(rotation(), replace(_WINDOWS, read=_read_layers, write=_write_layers), text_ids(bos=0, eos=2)),
    required=TEXT_ONLY,
    ignored=(),
    weights={**LLAMA.weights, **NORMS_OUT},
)  # fmt: skip
"""LG AI Research 2025."""

FAMILIES = (EXAONE4,)
