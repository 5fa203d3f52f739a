"""Mixtral."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig
from transformer_zoo.config.mixture import MixtureSpec
from transformer_zoo.zoo.families.llama import LLAMA, LLAMA2
from transformer_zoo.zoo.families.mistral import MISTRAL
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, layers
from transformer_zoo.zoo.huggingface.parts import text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

_ATTENTION = {name: entry for name, entry in LLAMA.weights.items() if ".ffn." not in name}


def _read_experts(theirs: Fields, ours: Fields) -> dict[str, Any]:
    experts, active = theirs.get("num_local_experts", 8), theirs.get("num_experts_per_tok", 2)
    mixture = MixtureSpec(n_experts=experts, n_active=active, d_ff=ours["d_ff"], activation=ours["activation"])
    return {"layer": {"ffn": mixture}}


def _write_experts(config: DecoderConfig) -> dict[str, Any]:
    ffn = config.decoder.layers[0].ffn
    if not isinstance(ffn, MixtureSpec):
        return {}
    return {"num_local_experts": ffn.n_experts, "num_experts_per_tok": ffn.n_active}


MIXTRAL = replace(
    MISTRAL,
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    constants={**LLAMA.constants, "ffn": "mixture"},
    # Jiang et al. 2024, "Mixtral of Experts", Table 1; mistralai/Mixtral-8x7B-v0.1.
    sizes={
        "mixtral-8x7b": {
            **LLAMA2, "n_kv_heads": 8, "d_ff": 14336, "max_seq_len": 32768, "positions.base": 1e6,
        },
    },
    fields={
        **MISTRAL.fields,
        "norm.eps": Field("rms_norm_eps", 1e-5),
        "sliding_window": Field("sliding_window", None),
    },
    parts=(
        rotation(default=1e6),
        Part({"num_local_experts": int, "num_experts_per_tok": int}, _read_experts, _write_experts),
        text_ids(bos=1, eos=2),
    ),
    ignored=("router_aux_loss_coef", "router_jitter_noise"),
    weights={
        **_ATTENTION,
        **layers(
            "decoder.layers.{i}.ffn",
            "model.layers.{i}.block_sparse_moe",
            {
                "router": "gate",
                "experts.{j}.gate_proj": "experts.{j}.w1",
                "experts.{j}.up_proj": "experts.{j}.w3",
                "experts.{j}.down_proj": "experts.{j}.w2",
            },
        ),
    },
)  # fmt: skip
"""Jiang et al. 2024."""

FAMILIES = (MIXTRAL,)
