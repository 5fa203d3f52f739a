"""GPT-1, GPT-2, GPT-3, and small models of this project."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig, RotarySpec
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, Fields, Part, Weight, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids


def _read_inner(theirs: Fields, ours: Fields) -> dict[str, Any]:
    return {"d_ff": theirs.get("n_inner") or 4 * ours["d_model"]}


def _write_inner(config: DecoderConfig) -> dict[str, Any]:
    return {"n_inner": getattr(config.decoder.layers[0].ffn, "d_ff", None), "embd_pdrop": config.dropout}


INNER = Part({"n_inner": int}, _read_inner, _write_inner)
"""The width of the feed-forward, by default four times d_model."""


def _read_scale(theirs: Fields, ours: Fields) -> dict[str, Any]:
    """Scores may be scaled by head_dim^-0.5, and by 1 / number of the layer."""
    is_scaled = theirs.get("scale_attn_weights", True)
    if theirs.get("scale_attn_by_inverse_layer_idx", False):
        scale = (ours["d_model"] // ours["n_heads"]) ** -0.5 if is_scaled else 1.0
        return {"layer": [{"attention": {"scale": scale / (i + 1)}} for i in range(ours["n_layers"])]}
    return {"attention.scale": None if is_scaled else 1.0}


def _write_scale(config: DecoderConfig) -> dict[str, Any]:
    scales = [getattr(layer.attention, "scale", None) for layer in config.decoder.layers]
    falls = len(set(scales)) > 1
    return {"scale_attn_weights": scales[0] != 1.0, "scale_attn_by_inverse_layer_idx": falls}


def _shape(n_layers: int, d_model: int, n_heads: int, head_dim: int | None = None) -> dict[str, Any]:
    return {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "d_ff": 4 * d_model, "head_dim": head_dim}


_GPT2 = {"vocab_size": 50257, "eos_id": 50256}
_GPT3 = {**_GPT2, "max_seq_len": 2048}

GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    config=DecoderConfig,
    constants={"norm_position": "pre", "positions": "learned"},
    sizes={
        # Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", Table 2.
        "gpt2": _GPT2,
        "gpt2-medium": {**_GPT2, **_shape(24, 1024, 16)},
        "gpt2-large": {**_GPT2, **_shape(36, 1280, 20)},
        "gpt2-xl": {**_GPT2, **_shape(48, 1600, 25)},
        "gpt2-untied": {**_GPT2, "attention.qkv_bias": False, "tie_embeddings": False},
        # Brown et al. 2020, "Language Models are Few-Shot Learners", Table 2.1, with dense attention in every layer:
        # its alternating sparse layers have the same weights.
        "gpt3-small": {**_GPT3, **_shape(12, 768, 12, 64)},
        "gpt3-medium": {**_GPT3, **_shape(24, 1024, 16, 64)},
        "gpt3-large": {**_GPT3, **_shape(24, 1536, 16, 96)},
        "gpt3-xl": {**_GPT3, **_shape(24, 2048, 24, 128)},
        "gpt3-2.7b": {**_GPT3, **_shape(32, 2560, 32, 80)},
        "gpt3-6.7b": {**_GPT3, **_shape(32, 4096, 32, 128)},
        "gpt3-13b": {**_GPT3, **_shape(40, 5140, 40, 128)},
        "gpt3-175b": {**_GPT3, **_shape(96, 12288, 96, 128)},
    },
    fields={
        "vocab_size": Field("vocab_size", 50257),
        "d_model": Field("n_embd", 768),
        "n_heads": Field("n_head", 12),
        "n_layers": Field("n_layer", 12),
        "max_seq_len": Field("n_positions", 1024),
        "activation": Field("activation_function", "gelu_new", ACTIVATIONS),
        "norm.eps": Field("layer_norm_epsilon", 1e-5),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("resid_pdrop", 0.1),
        "attention_dropout": Field("attn_pdrop", 0.1),
    },
    parts=(
        INNER,
        Part({"scale_attn_weights": bool, "scale_attn_by_inverse_layer_idx": bool}, _read_scale, _write_scale),
        text_ids(bos=50256, eos=50256, padded=False),
    ),
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

_STILL = {"dropout": 0.0, "attention_dropout": 0.0}
# As in nanoGPT's recipes for Tiny Shakespeare, which has 65 characters.
_CHARACTERS = {"vocab_size": 65, "activation": "gelu", "bias": False, "norm.learned": "weight"}
_LITTLE = {"max_seq_len": 256, "dropout": 0.2, "attention_dropout": 0.2}

OURS = Family(
    config=DecoderConfig,
    sizes={
        "gpt-nano": {**_CHARACTERS, **_shape(4, 128, 4), "max_seq_len": 64, **_STILL},
        "gpt-char": {**_CHARACTERS, **_shape(6, 384, 6), **_LITTLE},
        # docs/notebook.md has the ablation of each choice.
        "gpt-modern": {
            **_GPT2,
            **_STILL,
            "activation": "relu_squared",
            "norm": "rmsnorm",
            "bias": False,
            "positions": RotarySpec(layout="interleaved"),
            "attention.qk_norm": "rmsnorm",
        },
    },
)
"""Models without a counterpart in transformers, or of which only few have one."""

GPT1 = replace(
    GPT2,
    model_type="openai-gpt",
    architecture="OpenAIGPTLMHeadModel",
    constants={"norm_position": "post", "positions": "learned"},
    # Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 4.1.
    sizes={"gpt1": {"vocab_size": 40478, "max_seq_len": 512}},
    fields={
        **GPT2.fields,
        "vocab_size": Field("vocab_size", 40478),
        "max_seq_len": Field("n_positions", 512),
        "activation": Field("afn", "gelu", {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}),
    },
    parts=(
        Part({}, _read_inner, lambda config: {"embd_pdrop": config.dropout}),
        text_ids(bos=None, eos=None, padded=False),
    ),
    weights={
        **{name: entry for name, entry in GPT2.weights.items() if name != "decoder.final_norm"},
        "embedding": "transformer.tokens_embed",
        "decoder.positions": "transformer.positions_embed",
    },
    unused=("transformer.h.{i}.attn.bias",),
)
"""Radford et al. 2018."""

FAMILIES = (OURS, GPT1, GPT2)
