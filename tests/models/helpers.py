"""Small models and batches that the tests of this folder share."""

from typing import Any

import torch
from torch import Tensor, nn

from transformer_zoo import DecoderOnly, EncoderDecoder
from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "pre-norm": {"norm_position": "pre"},
    "learned": {"positions": "learned", "max_seq_len": 12},
    "halves": {"positions.layout": "halves", "max_seq_len": 4},  # longer than the table
    "grouped": {"n_heads": 4, "n_kv_heads": 2, "head_dim": 5},
    "modern": {"norm": "rmsnorm", "norm_position": "pre", "gated": True, "activation": "silu", "bias": False},
    "two vocabularies": {"target_vocab_size": 23, "share_embeddings": "none"},
    "inputs shared": {"share_embeddings": "inputs", "logit_bias": True},
    "relative": {"positions": "relative", "positions.buckets": 8, "positions.max_distance": 6, "attention.scale": 1.0},
    "scores of each layer": {"positions": "none", "layer.positions": "relative", "layer.positions.buckets": 8},
    "alibi": {"positions": "alibi", "n_heads": 3, "embedding_norm": True},
    "norms around": {"norm_position": "both", "norm": "rmsnorm", "norm.unit_offset": True},
    "carried": {"norm_position": "pre_carried", "norm.learned": "nothing", "logit_scale": 0.7},
    "norms of outputs": {"norm_position": "out", "norm": "rmsnorm", "final_norm": False},
    "sides differ": {
        "decoder.layer.attention.n_heads": 3,
        "decoder.layer.ffn.d_ff": 7,
        "ffn.bias": False,
        "attention.qkv_bias": False,
    },
    "offset": {"positions.layout": "halves_inclusive", "positions.offset": 2, "count_padding": False},
    "decoder shared": {"target_vocab_size": 23, "share_embeddings": "decoder"},
}

GPT: dict[str, Any] = {"vocab_size": 53, "d_model": 24, "n_heads": 4, "d_ff": 37, "n_layers": 2, "max_seq_len": 17}
GPT_VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "post-norm": {"norm_position": "post"},
    "rotary": {"positions": "rotary"},
    "interleaved": {"positions": "rotary", "positions.layout": "interleaved", "positions.dim": 4},
    "grouped": {
        "positions": "rotary",
        "n_kv_heads": 2,
        "head_dim": 10,
        "attention.qk_norm": "rmsnorm",
        "norm": "rmsnorm",
    },
    "sinusoidal": {"positions": "sinusoidal", "gated": True, "activation": "silu"},
    "turned and normed": {
        "positions": "rotary",
        "n_kv_heads": 2,
        "attention.qk_norm": "rmsnorm",
        "attention.qk_norm_over": "own_head",
        "attention.qk_norm_after_rotation": True,
        "norm.unit_offset": True,
        "logit_bias": True,
        "vocab_multiple": 16,
    },
    "capped": {"positions": "none", "attention.softcap": 2.0, "logit_softcap": 3.0, "activation": "relu_squared"},
    "padded": {"vocab_multiple": 16, "tie_embeddings": False, "init": "zero_out"},
    "alibi": {"positions": "alibi", "n_heads": 3, "embedding_norm": True},
    "relative": {"positions": "relative", "positions.buckets": 6, "positions.max_distance": 5},
    "scores of a layer": {"positions": "alibi", "layer": [{}, {"positions": {"kind": "relative", "buckets": 6}}]},
    "parallel": {"positions": "rotary", "positions.dim": 2, "norm_position": "parallel", "positions.scaling": "linear"},
    "shared norm": {
        "norm_position": "parallel_shared",
        "positions": "rotary",
        "positions.layout": "interleaved",
        "n_kv_heads": 2,
        "attention.qk_norm": "layernorm",
        "attention.qk_norm_over": "own_head",
    },
    "norms of outputs": {
        "norm_position": "out",
        "positions": "rotary",
        "positions.layout": "interleaved",
        "n_kv_heads": 2,
        "attention.qk_norm": "rmsnorm",
        "attention.qk_norm_over": "all_heads",
        "attention.clip": 0.5,
    },
    "windowed": {"positions": "rotary", "sliding_window": 3, "norm": "rmsnorm", "norm.unit_offset": True},
    "alternating": {"layer": [{}, {"attention": {"window": 4}}], "norm_position": "both", "attention.scale": 0.3},
    "narrow": {"d_embedding": 7, "positions.offset": 2, "norm_position": "post", "final_norm": True},
    "by layer": {
        "layer": [{"attention": {"scale": 6**-0.5}}, {"attention": {"scale": 6**-0.5 / 2}}],
        "logit_scale": 0.3,
        "norm.learned": "nothing",
        "ffn.bias": False,
    },
    "carried": {"norm_position": "pre_carried", "final_norm": False},
    "n-grams": {"ngrams": {"n": 3, "rows": 101}},
}


def small_model(**changes: Any) -> EncoderDecoder:
    """Two layers a side, random in every weight, in evaluation mode."""
    fields = {
        "vocab_size": 19,
        "d_model": 12,
        "n_heads": 2,
        "d_ff": 20,
        "n_encoder_layers": 2,
        "n_decoder_layers": 2,
    }
    model = EncoderDecoder(EncoderDecoderConfig.of(**fields | changes)).eval()
    for name, weight in model.named_parameters():
        if weight.dim() == 1:  # biases of 0 and norms of 1 would hide mistakes
            nn.init.normal_(weight, mean=float("norm.weight" in name), std=0.2)
    if model.logit_bias is not None:
        nn.init.normal_(model.logit_bias)
    return model


def small_gpt(**changes: Any) -> DecoderOnly:
    """A model in evaluation mode; every weight is moved, so that none is at a special value."""
    model = DecoderOnly(DecoderConfig.of(**GPT | changes)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return model


def tokens(*shape: int) -> Tensor:
    """Ids of ordinary tokens."""
    return torch.randint(4, 19, shape)


def real(lengths: list[int], longest: int | None = None) -> Tensor:
    """(B, T) mask of rows with so many real tokens."""
    return torch.arange(longest or max(lengths)) < torch.tensor(lengths)[:, None]
