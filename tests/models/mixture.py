"""A mixture of experts in twenty-five lines, as somebody would write it outside of the package."""

import torch
from torch import Tensor, nn

from transformer_zoo.blocks import FeedForward, forward_flops


class Mixture(nn.Module):
    """Each token goes through the `n_active` experts that its router likes best (Shazeer et al. 2017)."""

    label = "mixture of experts"
    reads, writes = ("router", "experts"), ("experts",)

    def __init__(self, d_model: int, d_ff: int, *, n_experts: int = 4, n_active: int = 2) -> None:
        super().__init__()
        self.n_active = n_active
        self.router = nn.Linear(d_model, n_experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(d_model, d_ff, gated=True, bias=False) for _ in range(n_experts))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(self.n_active)  # (B, T, n_active)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            weight = (weights * (chosen == i)).sum(-1, keepdim=True)  # (B, T, 1), 0 where it was not chosen
            out = out + weight * expert(x)
        return out

    def flops(self, n_keys: int) -> int:
        return forward_flops(self.router, n_keys) + self.n_active * forward_flops(self.experts[0], n_keys)
