"""GPT-2, GPT-NeoX (Pythia), OPT and BLOOM."""

from typing import Any

from transformer_zoo.config import DecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, Fields, Part, Weight, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, rotation, text_ids


def _read_inner(theirs: Fields, ours: Fields) -> dict[str, Any]:
    return {"d_ff": theirs.get("n_inner") or 4 * ours["d_model"]}


def _write_inner(config: DecoderConfig) -> dict[str, Any]:
    return {"n_inner": config.d_ff, "embd_pdrop": config.dropout}


GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    config=DecoderConfig,
    fields={
        "vocab_size": Field("vocab_size", 50257),
        "d_model": Field("n_embd", 768),
        "n_heads": Field("n_head", 12),
        "n_layers": Field("n_layer", 12),
        "max_seq_len": Field("n_positions", 1024),
        "activation": Field("activation_function", "gelu_new", ACTIVATIONS),
        "norm_eps": Field("layer_norm_epsilon", 1e-5),
        "attention_scale": Field("scale_attn_weights", True, {True: None, False: 1.0}),
        "attention_scale_by_layer": Field("scale_attn_by_inverse_layer_idx", False),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("resid_pdrop", 0.1),
        "attention_dropout": Field("attn_pdrop", 0.1),
    },
    parts=(Part({"n_inner": int}, _read_inner, _write_inner), text_ids(bos=50256, eos=50256, padded=False)),
    constants={"norm_position": "pre", "positions": "learned"},
    required=TEXT_ONLY,
    ignored=(
        "embd_pdrop", "n_ctx", "reorder_and_upcast_attn", "summary_type", "summary_use_proj", "summary_activation",
        "summary_proj_to_labels", "summary_first_dropout", "n_special", "predict_special_tokens",
    ),
    aliases={
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    },
    weights={
        "embedding": "transformer.wte",
        "decoder.positions": "transformer.wpe",
        **layers(
            "decoder.layers.{i}",
            "transformer.h.{i}",
            {
                "attn_norm": "ln_1",
                "attn.q_proj": Weight("attn.c_attn", part=0, transposed=True),
                "attn.k_proj": Weight("attn.c_attn", part=1, transposed=True),
                "attn.v_proj": Weight("attn.c_attn", part=2, transposed=True),
                "attn.out_proj": Weight("attn.c_proj", transposed=True),
                "ffn_norm": "ln_2",
                "ffn.up_proj": Weight("mlp.c_fc", transposed=True),
                "ffn.down_proj": Weight("mlp.c_proj", transposed=True),
            },
        ),
        "decoder.final_norm": "transformer.ln_f",
        "head": "lm_head",
    },
    prefix="transformer.",
    unused=("transformer.h.{i}.attn.bias", "transformer.h.{i}.attn.masked_bias"),
)  # fmt: skip
"""Radford et al. 2019."""

GPT_NEOX = Family(
    model_type="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    config=DecoderConfig,
    fields={
        "vocab_size": Field("vocab_size", 50432),
        "d_model": Field("hidden_size", 6144),
        "n_heads": Field("num_attention_heads", 64),
        "n_layers": Field("num_hidden_layers", 44),
        "d_ff": Field("intermediate_size", 24576),
        "max_seq_len": Field("max_position_embeddings", 2048),
        "activation": Field("hidden_act", "gelu", ACTIVATIONS),
        "norm_eps": Field("layer_norm_eps", 1e-5),
        "norm_position": Field("use_parallel_residual", True, {True: "parallel", False: "pre"}),
        "bias": Field("attention_bias", True),
        "tie_embeddings": Field("tie_word_embeddings", False),
        "dropout": Field("hidden_dropout", 0.0),
        "attention_dropout": Field("attention_dropout", 0.0),
    },
    parts=(
        rotation(base="rotary_emb_base", fraction="rotary_pct", default_fraction=0.25),
        text_ids(bos=0, eos=2, padded=False),
    ),
    constants={"ffn_bias": True},
    required=TEXT_ONLY,
    # GPT-NeoX-20B's, from before it had a dropout.
    ignored=("attention_probs_dropout_prob", "hidden_dropout_prob"),
    weights={
        "embedding": "gpt_neox.embed_in",
        **layers(
            "decoder.layers.{i}",
            "gpt_neox.layers.{i}",
            {
                "attn_norm": "input_layernorm",
                "attn.q_proj": Weight("attention.query_key_value", part=0, by_head=True),
                "attn.k_proj": Weight("attention.query_key_value", part=1, by_head=True),
                "attn.v_proj": Weight("attention.query_key_value", part=2, by_head=True),
                "attn.out_proj": "attention.dense",
                "ffn_norm": "post_attention_layernorm",
                "ffn.up_proj": "mlp.dense_h_to_4h",
                "ffn.down_proj": "mlp.dense_4h_to_h",
            },
        ),
        "decoder.final_norm": "gpt_neox.final_layer_norm",
        "head": "embed_out",
    },
    prefix="gpt_neox.",
    unused=(
        "gpt_neox.layers.{i}.attention.bias",
        "gpt_neox.layers.{i}.attention.masked_bias",
        "gpt_neox.layers.{i}.attention.rotary_emb.inv_freq",
        "gpt_neox.rotary_emb.inv_freq",
    ),
    renamed={"lm_head.weight": "embed_out.weight"},
)
"""Black et al. 2022; Pythia is Biderman et al. 2023."""


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
    before = config.norm_position == "pre"
    return {"do_layer_norm_before": before, "_remove_final_layer_norm": before and config.final_norm is False}


OPT = Family(
    model_type="opt",
    architecture="OPTForCausalLM",
    config=DecoderConfig,
    fields={
        "vocab_size": Field("vocab_size", 50272),
        "d_model": Field("hidden_size", 768),
        "n_heads": Field("num_attention_heads", 12),
        "n_layers": Field("num_hidden_layers", 12),
        "d_ff": Field("ffn_dim", 3072),
        "max_seq_len": Field("max_position_embeddings", 2048),
        "activation": Field("activation_function", "relu", ACTIVATIONS),
        "bias": Field("enable_bias", True),
        "norm_affine": Field("layer_norm_elementwise_affine", True),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("dropout", 0.1),
        "attention_dropout": Field("attention_dropout", 0.0),
    },
    parts=(
        Part({"word_embed_proj_dim": int}, _read_d_embedding, _write_d_embedding),
        Part({"do_layer_norm_before": bool, "_remove_final_layer_norm": bool}, _read_norms, _write_norms),
        text_ids(bos=2, eos=2, pad=1),
    ),
    constants={"positions": "learned", "position_offset": 2, "norm_eps": 1e-5},
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


def _read_sizes(theirs: Fields, ours: Fields) -> dict[str, Any]:
    if theirs.get("slow_but_exact", False) and theirs.get("pretraining_tp", 1) > 1:
        raise UserError("config.json: slow_but_exact with pretraining_tp above 1 leaves out biases: not supported")
    return {"d_ff": 4 * ours["d_model"], "max_seq_len": theirs.get("seq_length", 2048)}


def _write_sizes(config: DecoderConfig) -> dict[str, Any]:
    return {"seq_length": config.max_seq_len}


BLOOM = Family(
    model_type="bloom",
    architecture="BloomForCausalLM",
    config=DecoderConfig,
    fields={
        "vocab_size": Field("vocab_size", 250880),
        "d_model": Field("hidden_size", 64),
        "n_heads": Field("n_head", 8),
        "n_layers": Field("n_layer", 2),
        "norm_eps": Field("layer_norm_epsilon", 1e-5),
        "norm_position": Field(
            "apply_residual_connection_post_layernorm", False, {False: "pre", True: "pre_carried"}
        ),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("hidden_dropout", 0.0),
        "attention_dropout": Field("attention_dropout", 0.0),
    },
    parts=(
        Part({"seq_length": int, "slow_but_exact": bool, "pretraining_tp": int}, _read_sizes, _write_sizes),
        text_ids(bos=1, eos=2, padded=False),
    ),
    constants={"positions": "alibi", "embedding_norm": True, "activation": "gelu_tanh"},
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
                "attn.q_proj": Weight("self_attention.query_key_value", part=0, by_head=True),
                "attn.k_proj": Weight("self_attention.query_key_value", part=1, by_head=True),
                "attn.v_proj": Weight("self_attention.query_key_value", part=2, by_head=True),
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

FAMILIES = (GPT2, GPT_NEOX, OPT, BLOOM)
