"""Small models and batches that the tests of this folder share."""

from typing import Any

import torch
from torch import Tensor, nn

from transformer_zoo import EncoderDecoder
from transformer_zoo.config import EncoderDecoderConfig

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "pre-norm": {"norm_position": "pre"},
    "learned": {"positions": "learned", "max_seq_len": 12},
    "halves": {"sinusoid_layout": "halves", "max_seq_len": 4},  # longer than the table
    "grouped": {"n_heads": 4, "n_kv_heads": 2, "head_dim": 5},
    "modern": {"norm": "rmsnorm", "norm_position": "pre", "gated": True, "activation": "silu", "bias": False},
    "two vocabularies": {"target_vocab_size": 23, "share_embeddings": "none"},
    "inputs shared": {"share_embeddings": "inputs", "logit_bias": True},
    "relative": {"positions": "relative", "relative_buckets": 8, "relative_max_distance": 6, "attention_scale": 1.0},
    "alibi": {"positions": "alibi", "n_heads": 3, "embedding_norm": True},
    "norms around": {"norm_position": "both", "norm": "rmsnorm", "norm_unit_offset": True},
    "carried": {"norm_position": "pre_carried", "norm_affine": False, "logit_scale": 0.7},
    "sides differ": {"n_decoder_heads": 3, "decoder_d_ff": 7, "ffn_bias": False, "qkv_bias": False},
    "offset": {"sinusoid_layout": "halves_inclusive", "position_offset": 2, "count_padding": False},
    "decoder shared": {"target_vocab_size": 23, "share_embeddings": "decoder"},
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
    model = EncoderDecoder(EncoderDecoderConfig(**fields | changes)).eval()
    for name, weight in model.named_parameters():
        if weight.dim() == 1:  # biases of 0 and norms of 1 would hide mistakes
            nn.init.normal_(weight, mean=float("norm.weight" in name), std=0.2)
    if model.logit_bias is not None:
        nn.init.normal_(model.logit_bias)
    return model


def tokens(*shape: int) -> Tensor:
    """Ids of ordinary tokens."""
    return torch.randint(4, 19, shape)


def real(lengths: list[int], longest: int | None = None) -> Tensor:
    """(B, T) mask of rows with so many real tokens."""
    return torch.arange(longest or max(lengths)) < torch.tensor(lengths)[:, None]
