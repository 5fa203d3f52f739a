"""How weights start. Each function walks a module and sets what it names; embeddings set themselves."""

import torch
from torch import nn

from transformer_zoo.blocks.attention import Attention


@torch.no_grad()
def init_xavier(module: nn.Module) -> None:
    """Every linear layer: weights from Xavier's uniform distribution (Glorot & Bengio 2010), biases zero.

    The projections of queries, keys and values start smaller, by 1 / sqrt(2): as the rows of one (3D, D) matrix would,
    which is how `nn.Transformer` and fairseq start them, and what post-norm trains well from.
    """
    gains: dict[nn.Module, float] = {}
    for part in module.modules():
        if isinstance(part, Attention):
            gains |= dict.fromkeys((part.q_proj, part.k_proj, part.v_proj), 2**-0.5)
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight, gain=gains.get(part, 1.0))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
