"""A mixture of experts (Shazeer et al. 2017, "Outrageously Large Neural Networks")."""

import torch
from torch import Tensor, nn

from transformer_zoo.blocks.answers import flops_of_parts
from transformer_zoo.blocks.arguments import check_sizes
from transformer_zoo.blocks.feed_forward import FeedForward
from transformer_zoo.blocks.linear import Linear


class Mixture(nn.Module):
    """y = sum_i g_i(x) E_i(x) over the few experts E_i with the highest logits r(x); g is the softmax over these
    logits.

    Each position goes through `n_active` of `n_experts` feed-forward networks (Jiang et al. 2024, "Mixtral of Experts",
    section 2.1). Nothing here balances how often each expert is chosen; a loss for that belongs to the training.

    Args:
        d_model, d_ff, activation, gated, bias, dropout: for each expert, as for `FeedForward`.
        n_experts: number of experts.
        n_active: number of experts that a position goes through.

    Shapes: (..., D) -> (..., D).

    Raises:
        ValueError: n_active is above n_experts, or as for `FeedForward`.
    """

    reads, writes = ("router", "experts"), ("experts",)

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        n_experts: int = 8,
        n_active: int = 2,
        activation: str = "silu",
        gated: bool = True,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(n_experts=n_experts, n_active=n_active)
        if n_active > n_experts:
            raise ValueError(f"n_active {n_active} is more than n_experts {n_experts}")
        self.n_active = n_active
        self.router = Linear(d_model, n_experts, bias=False)
        self.experts = nn.ModuleList(
            FeedForward(d_model, d_ff, activation=activation, gated=gated, bias=bias, dropout=dropout)
            for _ in range(n_experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, -2)  # (N, D)
        shares = self.gates(flat)  # (N, E)
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            share = shares[:, i, None]  # (N, 1)
            if flat.is_meta or torch.compiler.is_compiling():  # where no size may depend on values
                out = out + share * expert(flat)
            else:
                rows = share[:, 0].nonzero()[:, 0]
                out = out.index_add(0, rows, share[rows] * expert(flat[rows]))
        return out.view_as(x)

    def gates(self, x: Tensor) -> Tensor:
        """How much of each expert every position takes: (N, D) -> (N, E), zero except for `n_active` of them."""
        logits: Tensor = self.router(x).float()
        best, chosen = logits.topk(self.n_active, dim=-1)  # (N, n_active)
        return torch.zeros_like(logits).scatter(-1, chosen, best.softmax(-1)).to(x.dtype)

    def flops(self, n_keys: int) -> int:
        """Operations for one position, which goes through `n_active` experts."""
        every = flops_of_parts(self.experts, n_keys)
        return flops_of_parts(self, n_keys) - every + every * self.n_active // len(self.experts)
