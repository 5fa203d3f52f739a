"""OPT."""

from typing import Any

from transformer_zoo.config import DecoderConfig, LearnedSpec
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, Fields, Part, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids


def _read_d_embedding(theirs: Fields, ours: Fields) -> dict[str, Any]:
    width = theirs.get("word_embed_proj_dim") or ours["d_model"]
    return {"d_embedding": None if width == ours["d_model"] else width}


def _write_d_embedding(config: DecoderConfig) -> dict[str, Any]:
    return {"word_embed_proj_dim": config.d_embedding or config.d_model}


def _read_norms(theirs: Fields, ours: Fields) -> dict[str, Any]:
    before = theirs.get("do_layer_norm_before", True)
    final = before and not theirs.get("_remove_final_layer_norm", False)
    return {"norm_position": "pre" if before else "post", "final_norm": final}


def _write_norms(config: DecoderConfig) -> dict[str, Any]:
    before = config.decoder.norm_position == "pre"
    without = before and config.decoder.final_norm is False
    return {"do_layer_norm_before": before, "_remove_final_layer_norm": without}


def _size(n_layers: int, d_model: int, n_heads: int, **others: Any) -> dict[str, Any]:
    """Zhang et al. 2022, "OPT: Open Pre-trained Transformer Language Models", Table 1."""
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "d_ff": 4 * d_model}
    ids = {"pad_id": 1, "bos_id": 2, "eos_id": 2}
    return {"vocab_size": 50272, "max_seq_len": 2048, "attention_dropout": 0.0, **shape, **ids, **others}


OPT = Family(
    model_type="opt",
    architecture="OPTForCausalLM",
    config=DecoderConfig,
    constants={"positions": LearnedSpec(offset=2), "activation": "relu", "norm_position": "pre"},
    sizes={
        "opt-125m": _size(12, 768, 12),
        # Unlike the others: norms come after each sublayer, with none at the end, and the embedding is narrower.
        "opt-350m": _size(24, 1024, 16, norm_position="post", d_embedding=512),
        "opt-1.3b": _size(24, 2048, 32),
        "opt-2.7b": _size(32, 2560, 32),
        "opt-6.7b": _size(32, 4096, 32),
        "opt-13b": _size(40, 5120, 40),
        "opt-30b": _size(48, 7168, 56),
        "opt-66b": _size(64, 9216, 72),
    },
    fields={
        "vocab_size": Field("vocab_size", 50272),
        "d_model": Field("hidden_size", 768),
        "n_heads": Field("num_attention_heads", 12),
        "n_layers": Field("num_hidden_layers", 12),
        "d_ff": Field("ffn_dim", 3072),
        "max_seq_len": Field("max_position_embeddings", 2048),
        "activation": Field("activation_function", "relu", ACTIVATIONS),
        "bias": Field("enable_bias", True),
        "norm.learned": Field("layer_norm_elementwise_affine", True, {True: "weight and bias", False: "nothing"}),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("dropout", 0.1),
        "attention_dropout": Field("attention_dropout", 0.0),
    },
    parts=(
        Part({"word_embed_proj_dim": int}, _read_d_embedding, _write_d_embedding),
        Part({"do_layer_norm_before": bool, "_remove_final_layer_norm": bool}, _read_norms, _write_norms),
        text_ids(bos=2, eos=2, pad=1),
    ),
    required={**TEXT_ONLY, "learned_embeddings": (True,), "scale_embeddings": (False,)},
    ignored=("layerdrop", "activation_dropout", "output_projection"),
    weights={
        "embedding": "model.decoder.embed_tokens",
        "embedding_in": "model.decoder.project_in",
        "embedding_out": "model.decoder.project_out",
        "decoder.positions": "model.decoder.embed_positions",
        **layers(
            "decoder.layers.{i}",
            "model.decoder.layers.{i}",
            {
                "attn_norm": "self_attn_layer_norm",
                "attn.q_proj": "self_attn.q_proj",
                "attn.k_proj": "self_attn.k_proj",
                "attn.v_proj": "self_attn.v_proj",
                "attn.out_proj": "self_attn.out_proj",
                "ffn_norm": "final_layer_norm",
                "ffn.up_proj": "fc1",
                "ffn.down_proj": "fc2",
            },
        ),
        "decoder.final_norm": "model.decoder.final_layer_norm",
        "head": "lm_head",
    },
    prefix="model.",
    unused=("model.decoder.version",),
)
"""Zhang et al. 2022."""

FAMILIES = (OPT,)
