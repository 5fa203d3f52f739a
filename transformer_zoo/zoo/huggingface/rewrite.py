"""The same model in the form that transformers has: permuted dimensions and cut vocabularies change no logit."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig
from transformer_zoo.zoo.huggingface.family import Config, spelled_out

State = dict[str, Tensor]

# What reads the residual stream does so in the last dimension of its weight; what writes it, in the first of both.
_READ = (
    "embedding", "source_embedding", "target_embedding", "ngram_embedding", "embedding_out", "head",
    "q_proj", "k_proj", "v_proj", "up_proj", "gate_proj",
)  # fmt: skip
_WRITE = (
    "embedding_in", "out_proj", "down_proj", "embedding_norm", "final_norm",
    "attn_norm", "cross_attn_norm", "ffn_norm", "attn_out_norm", "ffn_out_norm",
)  # fmt: skip
_NEITHER = ("q_norm", "k_norm", "")
"""Norms inside a head, and the bias of logits."""


def rewrite(config: Config, state: Mapping[str, Tensor]) -> tuple[Config, State]:
    """Sinusoids and rotation in halves, and no rows beyond the vocabulary."""
    state = dict(state)
    if isinstance(config, DecoderConfig) and config.vocab_multiple > 1:
        for name in state.keys() & {"embedding.weight", "head.weight"}:
            state[name] = state[name][: config.vocab_size]
        config = replace(config, vocab_multiple=1)
    if config.positions == "sinusoidal" and config.sinusoid_layout == "interleaved":
        order = halves(config.d_model)
        state = {name: _permute_residual(name, tensor, order) for name, tensor in state.items()}
        config = replace(config, sinusoid_layout="halves")
    if config.positions == "rotary" and config.rotary_layout == "interleaved":
        head_dim = spelled_out(config, "head_dim")
        turned = config.rotary_dim or head_dim
        order = torch.cat([halves(turned), torch.arange(turned, head_dim)])
        state = {name: _permute_heads(name, tensor, order) for name, tensor in state.items()}
        config = replace(config, rotary_layout="halves")
    return config, state


def unshare(config: EncoderDecoderConfig, state: State) -> tuple[EncoderDecoderConfig, State]:
    """Source embedding, target embedding and head as three matrices, of which some are copies."""
    state = dict(state)
    both = state.pop("embedding.weight", None)
    if both is not None:
        state |= {"source_embedding.weight": both, "target_embedding.weight": both.clone()}
    if "head.weight" not in state:
        state["head.weight"] = state["target_embedding.weight"].clone()
    return replace(config, share_embeddings="none"), state


def halves(n: int) -> Tensor:
    """The order that takes 0, 1, 2, 3, ... to the even ones and then the odd ones: (n,) int64."""
    return torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2)])


def _permute_residual(name: str, tensor: Tensor, order: Tensor) -> Tensor:
    module, _, kind = name.rpartition(".")
    module = module.rpartition(".")[2]
    order = order.to(tensor.device)
    if module in _READ:
        return tensor.index_select(-1, order) if kind == "weight" else tensor
    if module in _WRITE:
        return tensor.index_select(0, order)
    assert module in _NEITHER, f"it is not known how {name} meets the residual stream"
    return tensor


def _permute_heads(name: str, tensor: Tensor, order: Tensor) -> Tensor:
    """Queries and keys are permuted alike, so that their products are as before."""
    module = name.rpartition(".")[0].rpartition(".")[2]
    if module not in ("q_proj", "k_proj", "q_norm", "k_norm"):
        return tensor
    heads = tensor.unflatten(0, (-1, len(order)))  # (H, Dh, ...)
    permuted: Tensor = heads.index_select(1, order.to(tensor.device)).flatten(0, 1)
    return permuted
