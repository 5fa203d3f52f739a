"""GPT-J and CodeGen: attention beside feed-forward under one norm, a rotation of neighbours, and a head with a bias."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig, RotarySpec
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families.gpt import GPT2, INNER
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, Weight, layers
from transformer_zoo.zoo.huggingface.parts import text_ids


def _read_rotation(theirs: Fields, ours: Fields) -> dict[str, Any]:
    dim, head_dim = theirs.get("rotary_dim", 64), ours["d_model"] // ours["n_heads"]
    return {"positions": RotarySpec(dim=None if dim == head_dim else dim, layout="interleaved")}


def _write_rotation(config: DecoderConfig) -> dict[str, Any]:
    head_dim = config.decoder.layers[0].attention.width(config.d_model)
    return {"rotary_dim": getattr(config.decoder.positions, "dim", None) or head_dim}


def _check_heads(theirs: Fields, ours: Fields) -> dict[str, Any]:
    """UserError: the heads do not divide into four groups, in which queries, keys and values are stored."""
    if ours["n_heads"] % 4:
        raise UserError(f"config.json: n_head is {ours['n_heads']}; only multiples of 4 are supported")
    return {}


_SIZE = {"max_seq_len": 2048, "dropout": 0.0, "attention_dropout": 0.0}

GPTJ = replace(
    GPT2,
    model_type="gptj",
    architecture="GPTJForCausalLM",
    constants={"norm_position": "parallel_shared", "attention.bias": False, "logit_bias": True},
    sizes={
        # Wang & Komatsuzaki 2021, EleutherAI/gpt-j-6b.
        "gpt-j-6b": {
            **_SIZE, "positions": RotarySpec(dim=64, layout="interleaved"), "vocab_size": 50400, "d_model": 4096,
            "n_heads": 16, "d_ff": 16384, "n_layers": 28, "tie_embeddings": False, "bos_id": 50256, "eos_id": 50256,
        },
    },
    fields={
        **GPT2.fields,
        "vocab_size": Field("vocab_size", 50400),
        "d_model": Field("n_embd", 4096),
        "n_heads": Field("n_head", 16),
        "n_layers": Field("n_layer", 28),
        "max_seq_len": Field("n_positions", 2048),
        "tie_embeddings": Field("tie_word_embeddings", False),
        "dropout": Field("resid_pdrop", 0.0),
        "attention_dropout": Field("attn_pdrop", 0.0),
    },
    parts=(
        INNER,
        Part({"rotary_dim": int}, _read_rotation, _write_rotation),
        text_ids(bos=50256, eos=50256, padded=False),
    ),
    ignored=(*GPT2.ignored, "rotary", "scale_attn_weights"),  # transformers does not read the last two
    weights={
        "embedding": "transformer.wte",
        **layers(
            "decoder.layers.{i}",
            "transformer.h.{i}",
            {
                "attn_norm": "ln_1",
                "attn.q_proj": "attn.q_proj",
                "attn.k_proj": "attn.k_proj",
                "attn.v_proj": "attn.v_proj",
                "attn.out_proj": "attn.out_proj",
                "ffn.up_proj": "mlp.fc_in",
                "ffn.down_proj": "mlp.fc_out",
            },
        ),
        "decoder.final_norm": "transformer.ln_f",
        "head": "lm_head",
        "logit_bias": "lm_head.bias",
    },
)  # fmt: skip
"""Wang & Komatsuzaki 2021, "GPT-J-6B: A 6 Billion Parameter Autoregressive Language Model"."""


def _codegen(n_layers: int, d_model: int, n_heads: int, rotary_dim: int) -> dict[str, Any]:
    """Nijkamp et al. 2022, "CodeGen: An Open Large Language Model for Code", Table 5; Salesforce/codegen-350M-mono."""
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "d_ff": 4 * d_model}
    positions = RotarySpec(dim=None if rotary_dim * n_heads == d_model else rotary_dim, layout="interleaved")
    ids = {"vocab_size": 51200, "tie_embeddings": False, "bos_id": 1, "eos_id": 50256}
    return {**_SIZE, **shape, "positions": positions, **ids}


CODEGEN = replace(
    GPTJ,
    model_type="codegen",
    architecture="CodeGenForCausalLM",
    sizes={
        "codegen-350m": _codegen(20, 1024, 16, 32),
        "codegen-2b": _codegen(32, 2560, 32, 64),
        "codegen-6b": _codegen(33, 4096, 16, 64),
    },
    parts=(*GPTJ.parts, Part({}, _check_heads, lambda config: {}, limits=("n_head",))),
    weights={
        **GPTJ.weights,
        **layers(
            "decoder.layers.{i}.attn",
            "transformer.h.{i}.attn",
            {
                "q_proj": Weight("qkv_proj", part=0, groups=4),
                "v_proj": Weight("qkv_proj", part=1, groups=4),
                "k_proj": Weight("qkv_proj", part=2, groups=4),
            },
        ),
    },
    unused=(*GPT2.unused, "transformer.h.{i}.attn.causal_mask"),
)
"""Nijkamp et al. 2022."""

FAMILIES = (CODEGEN, GPTJ)
