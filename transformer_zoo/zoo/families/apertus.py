"""Apertus: Llama with norms of heads, and a feed-forward without a gate, whose activation learns two numbers."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig, Llama3Spec
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field, Fields, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

_ROTATION = rotation(default=12000000.0)
_USUAL = {
    "rope_type": "llama3", "rope_theta": 12000000.0, "factor": 8.0, "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0,
}  # fmt: skip


def _read_rotation(theirs: Fields, ours: Fields) -> dict[str, Any]:
    said = theirs.get("rope_scaling") or theirs.get("rope_parameters")
    return _ROTATION.read({**theirs, "rope_scaling": None, "rope_parameters": said or _USUAL}, ours)


def _write_rotation(config: DecoderConfig) -> dict[str, Any]:
    found = _ROTATION.write(config)  # as one field, because their default is not the usual one
    scaling = found.pop("rope_scaling", None) or {"rope_type": "default"}
    return {"rope_parameters": {**found, **scaling}} if found else {}


_8B = {
    "vocab_size": 131072, "d_model": 4096, "n_heads": 32, "n_kv_heads": 8, "d_ff": 21504, "n_layers": 32,
    "max_seq_len": 65536, "activation": "xielu", "positions.base": 12000000.0,
    "positions.scaling": Llama3Spec(factor=8.0), "bos_id": 1, "eos_id": 2, "pad_id": 3,
}  # fmt: skip

APERTUS = replace(
    LLAMA,
    model_type="apertus",
    architecture="ApertusForCausalLM",
    constants={
        **{name: value for name, value in LLAMA.constants.items() if name != "gated"},
        "attention.qk_norm": "rmsnorm",
    },
    sizes={
        # Hernández-Cano et al. 2025; swiss-ai/Apertus-8B-2509 and -70B-2509.
        "apertus-8b": _8B,
        "apertus-70b": {**_8B, "d_model": 8192, "n_heads": 64, "d_ff": 43008, "n_layers": 80},
    },
    fields={
        **{name: entry for name, entry in LLAMA.fields.items() if name != "ffn.bias"},
        "vocab_size": Field("vocab_size", 131072),
        "d_ff": Field("intermediate_size", 14336),
        "max_seq_len": Field("max_position_embeddings", 65536),
        "activation": Field("hidden_act", "xielu", {**ACTIVATIONS, "xielu": "xielu"}),
        "norm.eps": Field("rms_norm_eps", 1e-5),
        "attention.qk_norm.eps": Field("rms_norm_eps", 1e-5),
    },
    parts=(replace(_ROTATION, read=_read_rotation, write=_write_rotation), text_ids(bos=1, eos=2, pad=3)),
    required={**TEXT_ONLY, "qk_norm": (True,), "post_norm": (False,), "mlp_bias": (False,)},
    ignored=("hidden_dropout",),  # which its class does not have
    weights={
        **LLAMA.weights,
        **layers(
            "decoder.layers.{i}",
            "model.layers.{i}",
            {
                "attn_norm": "attention_layernorm",
                "ffn_norm": "feedforward_layernorm",
                "ffn.activation": "mlp.act_fn",
            },
        ),
    },
)
"""Hernández-Cano et al. 2025, "Apertus: Democratizing Open and Compliant LLMs for Global Language Environments"."""

FAMILIES = (APERTUS,)
