"""How weights start. Each function walks a module and sets what it names; embeddings set themselves."""

import torch
from torch import nn

from transformer_zoo.blocks.arguments import check_positive, check_sizes
from transformer_zoo.blocks.attention import Attention
from transformer_zoo.blocks.embedding import TokenEmbedding
from transformer_zoo.blocks.feed_forward import FeedForward
from transformer_zoo.blocks.positions import LearnedPositions


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


@torch.no_grad()
def init_gpt2(module: nn.Module, n_layers: int, *, std: float = 0.02) -> None:
    """GPT-2's start: every matrix from N(0, std^2), biases zero (Radford et al. 2019, section 2.3).

    The last projection of each sublayer is 1 / sqrt(2 n_layers) of that, so that the residual stream, to which
    2 n_layers of them add, does not grow with depth.
    """
    check_sizes(n_layers=n_layers)
    check_positive(std=std)
    last = _last_projections(module)
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std * (2 * n_layers) ** -0.5 if part in last else std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, TokenEmbedding | LearnedPositions):
            nn.init.normal_(part.weight, std=std)


@torch.no_grad()
def init_zero_out(module: nn.Module) -> None:
    """Every sublayer starts by adding nothing: its last projection is zero (Zhang et al. 2019, "Fixup"), biases too.

    Other linear layers are drawn from N(0, 1 / inputs), which keeps unit variance.
    """
    last = _last_projections(module)
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.0 if part in last else part.in_features**-0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _last_projections(module: nn.Module) -> set[nn.Module]:
    """What a sublayer's output comes out of."""
    attention = {part.out_proj for part in module.modules() if isinstance(part, Attention)}
    return attention | {part.down_proj for part in module.modules() if isinstance(part, FeedForward)}
