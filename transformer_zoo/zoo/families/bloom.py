"""BLOOM."""

from typing import Any

from transformer_zoo.config import DecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.family import Family, Field, Fields, Part, Weight, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids


def _read_sizes(theirs: Fields, ours: Fields) -> dict[str, Any]:
    if theirs.get("slow_but_exact", False) and theirs.get("pretraining_tp", 1) > 1:
        raise UserError("config.json: slow_but_exact with pretraining_tp above 1 leaves out biases: not supported")
    return {"d_ff": 4 * ours["d_model"], "max_seq_len": theirs.get("seq_length", 2048)}


def _write_sizes(config: DecoderConfig) -> dict[str, Any]:
    return {"seq_length": config.max_seq_len}


def _size(n_layers: int, d_model: int, n_heads: int) -> dict[str, Any]:
    """BigScience 2022, "BLOOM: A 176B-Parameter Open-Access Multilingual Language Model", Table 3."""
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "d_ff": 4 * d_model}
    return {"vocab_size": 250880, "max_seq_len": 2048, "dropout": 0.0, "attention_dropout": 0.0, "eos_id": 2, **shape}


BLOOM = Family(
    model_type="bloom",
    architecture="BloomForCausalLM",
    config=DecoderConfig,
    constants={"positions": "alibi", "embedding_norm": True, "activation": "gelu_tanh"},
    sizes={
        "bloom-560m": _size(24, 1024, 16),
        "bloom-1b1": _size(24, 1536, 16),
        "bloom-1b7": _size(24, 2048, 16),
        "bloom-3b": _size(30, 2560, 32),
        "bloom-7b1": _size(30, 4096, 32),
        "bloom-176b": _size(70, 14336, 112),
    },
    fields={
        "vocab_size": Field("vocab_size", 250880),
        "d_model": Field("hidden_size", 64),
        "n_heads": Field("n_head", 8),
        "n_layers": Field("n_layer", 2),
        "norm.eps": Field("layer_norm_epsilon", 1e-5),
        "norm_position": Field("apply_residual_connection_post_layernorm", False, {False: "pre", True: "pre_carried"}),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("hidden_dropout", 0.0),
        "attention_dropout": Field("attention_dropout", 0.0),
    },
    parts=(
        Part(
            {"seq_length": int, "slow_but_exact": bool, "pretraining_tp": int},
            _read_sizes,
            _write_sizes,
            limits=("slow_but_exact",),
        ),
        text_ids(bos=1, eos=2, padded=False),
    ),
    required=TEXT_ONLY,
    # Megatron's.
    ignored=(
        "n_inner", "offset_alibi", "attention_softmax_in_fp32", "masked_softmax_fusion", "bias_dropout_fusion",
        "skip_bias_add", "skip_bias_add_qkv",
    ),
    aliases={"n_embed": "hidden_size", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"},
    weights={
        "embedding": "transformer.word_embeddings",
        "decoder.embedding_norm": "transformer.word_embeddings_layernorm",
        **layers(
            "decoder.layers.{i}",
            "transformer.h.{i}",
            {
                "attn_norm": "input_layernorm",
                "attn.q_proj": Weight("self_attention.query_key_value", part=0, groups=0),
                "attn.k_proj": Weight("self_attention.query_key_value", part=1, groups=0),
                "attn.v_proj": Weight("self_attention.query_key_value", part=2, groups=0),
                "attn.out_proj": "self_attention.dense",
                "ffn_norm": "post_attention_layernorm",
                "ffn.up_proj": "mlp.dense_h_to_4h",
                "ffn.down_proj": "mlp.dense_4h_to_h",
            },
        ),
        "decoder.final_norm": "transformer.ln_f",
        "head": "lm_head",
    },
    prefix="transformer.",
)  # fmt: skip
"""Le Scao et al. 2022."""

FAMILIES = (BLOOM,)
