"""The same model in the form of transformers: permuted dimensions and shortened vocabularies change no logit."""

from dataclasses import replace

import torch
from torch import Tensor

from transformer_zoo.blocks.answers import residual_axes, turned_weights
from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig, RotarySpec, SinusoidalSpec
from transformer_zoo.config.changes import value_at
from transformer_zoo.config.positions import PositionsSpec
from transformer_zoo.models import AnyModel
from transformer_zoo.zoo.huggingface.family import Config, spelled_out

State = dict[str, Tensor]


def rewrite(model: AnyModel, *, keep_rotation: bool = False) -> tuple[Config, State]:
    """Configuration and weights with sinusoids and rotation in halves, and no rows beyond the vocabulary.

    keep_rotation: do not change which dimensions are rotated together.
    """
    config: Config = model.config
    state: State = dict(model.state_dict())
    if isinstance(config, DecoderConfig) and config.vocab_multiple > 1:
        for name, weight in model.named_parameters():
            if weight in {model.head_weight, model.logit_bias, getattr(model.embedding, "weight", None)}:
                state[name] = state[name][: config.vocab_size]  # which has a row for each token
        config = replace(config, vocab_multiple=1)
    positions = _everywhere(config)
    if isinstance(positions, SinusoidalSpec) and positions.layout == "interleaved":
        order = halves(config.d_model)
        for name, axes in residual_axes(model).items():
            for axis in axes:
                state[name] = state[name].index_select(axis, order.to(state[name].device))
        config = config.changed(**{"positions.layout": "halves"})
    interleaved = isinstance(positions, RotarySpec) and positions.layout == "interleaved"
    if interleaved and not keep_rotation and _says_what_turns(model):
        head_dim = spelled_out(config, "head_dim")
        turned = value_at(config, "positions.dim") or head_dim
        order = torch.cat([halves(turned), torch.arange(turned, head_dim)])
        for name in turned_weights(model):  # queries and keys alike, so that their products are as before
            heads = state[name].unflatten(0, (-1, len(order)))  # (H, Dh, ...)
            state[name] = heads.index_select(1, order.to(heads.device)).flatten(0, 1)
        config = config.changed(**{"positions.layout": "halves"})
    return config, state


def _says_what_turns(model: AnyModel) -> bool:
    """Whether everything with positions rotates; unknown positions stay unchanged, and the family decides about
    them."""
    return all(hasattr(part, "turns") for part in model.modules() if getattr(part, "rotary", None) is not None)


def _everywhere(config: Config) -> PositionsSpec | None:
    """The positions of the stacks and of all layers that have any, if they are the same. A permutation for some of them
    changes the others."""
    every = {stack.positions_of(layer) for _, stack in config.stacks() for layer in stack.layers}
    every |= {stack.positions for _, stack in config.stacks()}
    found = every - {None}
    return found.pop() if len(found) == 1 else None


def unshare(config: EncoderDecoderConfig, state: State) -> tuple[EncoderDecoderConfig, State]:
    """Source embedding, target embedding and head as three matrices, some of which are copies."""
    state = dict(state)
    both = state.pop("embedding.weight", None)
    if both is not None:
        state |= {"source_embedding.weight": both, "target_embedding.weight": both.clone()}
    if "head.weight" not in state:
        state["head.weight"] = state["target_embedding.weight"].clone()
    return replace(config, share_embeddings="none"), state


def halves(n: int) -> Tensor:
    """The permutation that takes 0, 1, 2, 3, ... to the even indices and then the odd ones: (n,) int64."""
    return torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2)])
