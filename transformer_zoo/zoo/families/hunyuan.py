"""Hunyuan, and Hunyuan-MT for translation: Llama with norms of queries and keys after the rotation."""

from dataclasses import replace
from typing import Any

from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.family import Field, Fields, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

_ROTATION = rotation()


def _read_rotation(theirs: Fields, ours: Fields) -> dict[str, Any]:
    """The positions. A dynamic scaling with an alpha is a larger base, for inputs of any length."""
    said = {**(theirs.get("rope_scaling") or theirs.get("rope_parameters") or {})}
    kind, alpha = said.get("rope_type", said.get("type")), said.pop("alpha", None)
    if kind == "dynamic" and alpha:
        dim = ours.get("head_dim") or ours["d_model"] // ours["n_heads"]
        base = said.get("rope_theta", theirs.get("rope_theta", 10000.0))
        said = {"rope_type": "default", "rope_theta": base * alpha ** (dim / (dim - 2))}
    return _ROTATION.read({**theirs, "rope_scaling": None, "rope_parameters": said or None}, ours)


HUNYUAN = replace(
    LLAMA,
    model_type="hunyuan_v1_dense",
    architecture="HunYuanDenseV1ForCausalLM",
    constants={**LLAMA.constants, "attention.qk_norm": "rmsnorm", "attention.qk_norm_after_rotation": True},
    sizes={
        # Tencent 2025; tencent/Hunyuan-7B-Instruct.
        "hunyuan-7b": {
            "vocab_size": 128167, "d_model": 4096, "n_heads": 32, "n_kv_heads": 8, "d_ff": 14336, "n_layers": 32,
            "max_seq_len": 32768, "positions.base": 10000.0 * 1000.0 ** (128 / 126), "tie_embeddings": True,
            "bos_id": 127958, "eos_id": 127960, "pad_id": 127961,
        },
    },
    fields={
        **{name: entry for name, entry in LLAMA.fields.items() if name != "ffn.bias"},
        "vocab_size": Field("vocab_size", 290943),
        "norm.eps": Field("rms_norm_eps", 1e-5),
        "attention.qk_norm.eps": Field("rms_norm_eps", 1e-5),
    },
    parts=(replace(_ROTATION, read=_read_rotation), text_ids(bos=1, eos=2, pad=0)),
    required={
        **TEXT_ONLY, "use_qk_norm": (True,), "use_cla": (False,), "num_experts": (1, None), "mlp_bias": (False,),
        "add_classification_head": (False,), "norm_type": ("rms",), "use_rotary_pos_emb": (True,),
    },
    # transformers does not read these.
    ignored=(
        "attention_head_dim", "cla_share_factor", "class_num", "dense_list", "eod_token_id", "im_end_id",
        "im_newline_id", "im_start_id", "mask_init_id", "org_vocab_size", "pad_id", "pool_type", "text_end_id",
        "text_start_id",
    ),
    weights={
        **LLAMA.weights,
        **layers(
            "decoder.layers.{i}.attn",
            "model.layers.{i}.self_attn",
            {"q_norm": "query_layernorm", "k_norm": "key_layernorm"},
        ),
    },
)  # fmt: skip
"""Tencent 2025, Hunyuan dense models; Zheng et al. 2025, "Hunyuan-MT Technical Report"."""

FAMILIES = (HUNYUAN,)
