"""Gemma 3, for text: five layers with a sliding window, then one that sees all; each kind has its own rotation."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import RMSNormSpec, RotarySpec
from transformer_zoo.zoo.families.gemma import GEMMA, GEMMA2
from transformer_zoo.zoo.huggingface.family import Field
from transformer_zoo.zoo.huggingface.parts import text_ids
from transformer_zoo.zoo.huggingface.rope import rotations_and_windows


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
        rotations_and_windows(
            {"full_attention": 1e6, "sliding_attention": 1e4}, each=6, near="rope_local_base_freq",
            pattern="sliding_window_pattern",
        ),
        text_ids(bos=2, eos=1, pad=0),
    ),
    required={**GEMMA2.required, "attn_logit_softcapping": (None,)},  # which transformers reads and does not use
)  # fmt: skip
"""Gemma Team 2025, "Gemma 3 Technical Report"."""

FAMILIES = (GEMMA3,)
