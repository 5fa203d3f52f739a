"""DeepSeek-V3, for models whose layers are all dense: its attention with Llama's feed-forward."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig, RotarySpec
from transformer_zoo.config.latent_attention import LatentSpec
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.families.mistral import SHAPE
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

_ROTATION = rotation(scalings=())  # theirs would scale the scores too
_REST = {name: entry for name, entry in LLAMA.weights.items() if ".attn." not in name}


def _read_rotation(theirs: Fields, ours: Fields) -> dict[str, Any]:
    rotary = _ROTATION.read(theirs, ours)["positions"]
    is_interleaved = theirs.get("rope_interleave", True)
    return {"positions": replace(rotary, layout="interleaved" if is_interleaved else "halves")}


def _write_rotation(config: DecoderConfig) -> dict[str, Any]:
    rotary = config.decoder.positions
    interleaved = isinstance(rotary, RotarySpec) and rotary.layout == "interleaved"
    return {**_ROTATION.write(config), "rope_interleave": interleaved}


_OF_LAYERS = {"first_k_dense_replace": int, "num_key_value_heads": int}


def _read_layers(theirs: Fields, ours: Fields) -> dict[str, Any]:
    dense = theirs.get("first_k_dense_replace", 3)
    if dense is None or dense < ours["n_layers"]:
        raise UserError(
            f"config.json: first_k_dense_replace is {dense}: the layers from there on have experts, which deepseek_v3 "
            "cannot have here; only num_hidden_layers and more is supported"
        )
    n_kv_heads = theirs.get("num_key_value_heads", ours["n_heads"])
    if n_kv_heads not in (None, ours["n_heads"]):
        raise UserError(f"config.json: num_key_value_heads is {n_kv_heads}; only num_attention_heads is supported")
    return {}


def _write_layers(config: DecoderConfig) -> dict[str, Any]:
    attention = config.decoder.layers[0].attention
    return {"first_k_dense_replace": config.decoder.n_layers, "num_key_value_heads": attention.n_heads}


DEEPSEEK_V3 = replace(
    LLAMA,
    model_type="deepseek_v3",
    architecture="DeepseekV3ForCausalLM",
    constants={
        **{name: value for name, value in LLAMA.constants.items() if name not in ("bias", "attention_dropout")},
        "attention": LatentSpec(),
        "ffn.bias": False,
    },
    sizes={},
    fields={
        **{name: entry for name, entry in SHAPE.items() if name not in ("n_kv_heads", "head_dim", "attention_dropout")},
        "vocab_size": Field("vocab_size", 129280),
        "d_model": Field("hidden_size", 7168),
        "d_ff": Field("intermediate_size", 18432),
        "n_layers": Field("num_hidden_layers", 61),
        "n_heads": Field("num_attention_heads", 128),
        "max_seq_len": Field("max_position_embeddings", 4096),
        "attention.kv_rank": Field("kv_lora_rank", 512),
        "attention.q_rank": Field("q_lora_rank", 1536),
        "attention.head_dim": Field("qk_nope_head_dim", 128),
        "attention.rotary_dim": Field("qk_rope_head_dim", 64),
        "attention.value_dim": Field("v_head_dim", 128),
        "attention.bias": Field("attention_bias", False),
        "attention.dropout": Field("attention_dropout", 0.0),
    },
    parts=(
        Part({**_ROTATION.names, "rope_interleave": bool}, _read_rotation, _write_rotation, limits=_ROTATION.limits),
        Part(_OF_LAYERS, _read_layers, _write_layers, limits=tuple(_OF_LAYERS)),
        text_ids(bos=0, eos=1),
    ),
    required=TEXT_ONLY,
    # Fields of experts, and fields that follow from others.
    ignored=(
        "moe_intermediate_size", "n_shared_experts", "n_routed_experts", "num_local_experts", "routed_scaling_factor",
        "n_group", "topk_group", "num_experts_per_tok", "norm_topk_prob", "num_mtp_layers", "num_nextn_predict_layers",
        "head_dim", "qk_head_dim", "pretraining_tp", "topk_method", "scoring_func", "moe_layer_freq", "aux_loss_alpha",
        "seq_aux", "ep_size",
    ),
    weights={
        **_REST,
        **layers(
            "decoder.layers.{i}.attn",
            "model.layers.{i}.self_attn",
            {
                "q_proj": "q_proj",
                "q_down": "q_a_proj",
                "q_norm": "q_a_layernorm",
                "q_up": "q_b_proj",
                "kv_down": "kv_a_proj_with_mqa",
                "kv_norm": "kv_a_layernorm",
                "kv_up": "kv_b_proj",
                "out_proj": "o_proj",
            },
        ),
    },
)  # fmt: skip
"""DeepSeek-AI 2024, "DeepSeek-V3 Technical Report"."""

FAMILIES = (DEEPSEEK_V3,)
