"""How weights start. Each function walks a module and sets what it names; embeddings set themselves."""

import torch
from torch import nn


@torch.no_grad()
def init_xavier(module: nn.Module) -> None:
    """Every linear layer: weights from Xavier's uniform distribution (Glorot & Bengio 2010), biases zero.

    The scheme of the paper's own code and of `nn.Transformer`, for post-norm and pre-norm encoder-decoders.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
