"""Multi-head latent attention (DeepSeek-AI 2024, "DeepSeek-V2", section 2.1 and appendix C).

Shapes: B batch, Tq queries, Tk keys, D width (`d_model`), H heads, C `kv_rank`, Dh, R and Dv the `head_dim`,
`rotary_dim` and `value_dim` of a head.
"""

import torch
from torch import Tensor

from transformer_zoo.blocks.answers import flops_of_parts
from transformer_zoo.blocks.arguments import check_probabilities, check_sizes
from transformer_zoo.blocks.cache import KVCache, StaticKVCache
from transformer_zoo.blocks.dot_product import attention_weights
from transformer_zoo.blocks.linear import Linear
from transformer_zoo.blocks.masks import causal_mask
from transformer_zoo.blocks.norm import RMSNorm
from transformer_zoo.blocks.rotary import RotaryPositions
from transformer_zoo.blocks.view import BaseAttention, View
from transformer_zoo.kernels.attention import attend_by_blocks
from transformer_zoo.kernels.dot_product import Options, scaled_dot_product


class LatentAttention(BaseAttention):
    """Attention whose keys and values come from one small vector per token, c = W^DKV h (equations 9 to 11).

    Head i has the keys [W^UK_i c; RoPE(W^KR h)], whose second part all heads share, and the values W^UV_i c. Its
    queries are [W^UQ_i c'; RoPE(W^QR_i c')] with c' = W^DQ h (equations 12 to 17). c and c' go through a norm. A cache
    keeps c and the rotated key, C + R numbers for a token.

    `kv_down` is W^DKV above W^KR. For each head `kv_up` is W^UK above W^UV, and `q_up` is W^UQ above W^QR. `q_down` is
    W^DQ; without q_rank, `q_proj` replaces `q_up` and `q_down`.

    Args:
        d_model: width of the input and the output.
        n_heads: number of heads.
        kv_rank, q_rank: widths of c and c'; if q_rank is None, queries are projected in one step.
        head_dim, rotary_dim, value_dim: widths in a head.
        bias: whether `q_down`, `kv_down` and `out_proj` have a bias.
        dropout: probability of dropping an attention weight.
        norm_eps: eps of the two norms.
        rotary: rotates the rotary part, of width `rotary_dim`; None: nothing is rotated.
        window: as for `Attention`.

    Raises:
        ValueError: an argument is out of range.
    """

    reads, writes = ("q_proj", "q_down", "kv_down"), ("out_proj",)

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        kv_rank: int,
        q_rank: int | None = None,
        head_dim: int = 128,
        rotary_dim: int = 64,
        value_dim: int = 128,
        bias: bool = False,
        dropout: float = 0.0,
        norm_eps: float = 1e-6,
        rotary: RotaryPositions | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model, n_heads=n_heads, kv_rank=kv_rank)
        check_sizes(head_dim=head_dim, rotary_dim=rotary_dim, value_dim=value_dim)
        check_sizes(q_rank=q_rank, window=window, optional=True)
        check_probabilities(dropout=dropout)
        self.n_heads, self.head_dim = n_heads, head_dim + rotary_dim
        self.kv_rank, self.parts = kv_rank, (head_dim, rotary_dim, value_dim)
        self.dropout, self.rotary, self.window = dropout, rotary, window
        self.q_proj = Linear(d_model, n_heads * self.head_dim, bias=False) if q_rank is None else None
        self.q_down = None if q_rank is None else Linear(d_model, q_rank, bias=bias)
        self.q_norm = None if q_rank is None else RMSNorm(q_rank, eps=norm_eps)
        self.q_up = None if q_rank is None else Linear(q_rank, n_heads * self.head_dim, bias=False)
        self.kv_down = Linear(d_model, kv_rank + rotary_dim, bias=bias)
        self.kv_norm = RMSNorm(kv_rank, eps=norm_eps)
        self.kv_up = Linear(kv_rank, n_heads * (head_dim + value_dim), bias=False)
        self.out_proj = Linear(n_heads * value_dim, d_model, bias=bias)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        is_causal: bool = False,
        cache: KVCache | None = None,
        view: View | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from x (B, Tq, D) to itself and to what is in the cache; arguments as for `Attention`.

        Returns:
            (B, Tq, D); with `return_weights` a pair of that and the weights (B, H, Tq, Tk).
        """
        if view is None:
            view = self.view(x, mask=mask, bias=bias, is_causal=is_causal, cache=cache)
        queries, held = self._queries(x, view), self._latents(x, view)  # (B, H, Tq, Dh + R), (B, 1, Tq, C + R)
        if cache is not None:
            [held] = cache.append(held)  # (B, 1, Tk, C + R)
        if cache is not None and not return_weights and self._is_shorter(x.size(1)):
            heads, weights = self._attend_to_latents(queries, held, view), None
        else:
            heads, weights = self._attend(queries, *self._expand(held), view, return_weights=return_weights)
        out: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))  # (B, Tq, D)
        return out if weights is None else (out, weights)

    def _queries(self, x: Tensor, view: View) -> Tensor:
        if self.q_proj is not None:
            queries = self.q_proj(x)
        else:
            assert self.q_down is not None
            assert self.q_norm is not None
            assert self.q_up is not None
            queries = self.q_up(self.q_norm(self.q_down(x)))
        queries = queries.unflatten(-1, (self.n_heads, self.head_dim)).transpose(1, 2)  # (B, H, T, Dh + R)
        return self._turned(queries, self.parts[0], view)

    def _latents(self, x: Tensor, view: View) -> Tensor:
        """c after its norm, followed by the rotated key: (B, T, D) -> (B, 1, T, C + R)."""
        latent, key = self.kv_down(x).split([self.kv_rank, self.parts[1]], dim=-1)
        both = torch.cat([self.kv_norm(latent), key], dim=-1)[:, None]  # (B, 1, T, C + R)
        return self._turned(both, self.kv_rank, view)

    def _turned(self, x: Tensor, start: int, view: View) -> Tensor:
        """A copy whose dimensions from `start` on are rotated."""
        if view.rotation is None:
            return x
        still, turning = x.split([start, self.parts[1]], dim=-1)
        return torch.cat([still, view.rotation.apply(turning)], dim=-1)

    def _expand(self, held: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (B, H, T, Dh + R) and values (B, H, T, Dv) from c and the rotated keys, (B, 1, T, C + R)."""
        head_dim, rotary_dim, value_dim = self.parts
        latent, key = held.split([self.kv_rank, rotary_dim], dim=-1)
        both = self.kv_up(latent[:, 0]).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, T, Dh + Dv)
        keys, values = both.split([head_dim, value_dim], dim=-1)
        return torch.cat([keys, key.expand(-1, self.n_heads, -1, -1).to(keys.dtype)], dim=-1), values

    def _attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, view: View, *, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        if return_weights:
            mask = causal_mask(queries.size(2), device=queries.device) if view.is_causal else view.mask
            weights = attention_weights(queries, keys, mask=mask, bias=view.bias)
            return weights @ values, weights
        if view.blocks is not None:
            return attend_by_blocks(queries, keys, values, view.blocks, scale=None, softcap=None), None
        return scaled_dot_product(queries, keys, values, self._options(view)), None

    def _options(self, view: View) -> Options:
        return Options(*view[:3], self.dropout if self.training else 0.0, self.head_dim**-0.5)

    def _is_shorter(self, n: int) -> bool:
        """Whether n queries that attend to c directly cost less than keys and values of all tokens. The decision uses
        the matrix itself, not a packed or quantised copy of it."""
        head_dim, _, value_dim = self.parts
        is_few = torch.compiler.is_exporting() or 2 * n <= head_dim + value_dim  # a graph for all n takes one way only
        return is_few and type(self.kv_up) is Linear

    def _attend_to_latents(self, queries: Tensor, held: Tensor, view: View) -> Tensor:
        """The same with W^UK moved into the queries and W^UV moved behind the sum (section 2.1.2). No key or value is
        computed, and all heads attend to c."""
        head_dim, _, value_dim = self.parts
        up = self.kv_up.weight.view(self.n_heads, head_dim + value_dim, self.kv_rank)
        keys_up, values_up = up.split([head_dim, value_dim], dim=1)  # (H, Dh, C), (H, Dv, C)
        still, turned = queries.split([head_dim, self.parts[1]], dim=-1)
        asked = torch.cat([(still @ keys_up).to(turned.dtype), turned], dim=-1)  # (B, H, Tq, C + R)
        held = held.to(asked.dtype)
        found = scaled_dot_product(asked, held, held[..., : self.kv_rank], self._options(view))  # (B, H, Tq, C)
        out: Tensor = found @ values_up.transpose(1, 2)  # (B, H, Tq, Dv)
        return out

    def new_cache(
        self,
        batch: int,
        capacity: int,
        *,
        static: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> KVCache:
        """A cache with space for `capacity` tokens in each of `batch` rows: C + R numbers a token."""
        kind = StaticKVCache if static else KVCache
        shape = (batch, 1, capacity, self.kv_rank + self.parts[1])
        return kind(torch.empty(shape, device=device, dtype=dtype))

    def flops(self, n_keys: int) -> int:
        """Operations for one token that attends to `n_keys` keys: projections, scores, and the sum of the values."""
        return flops_of_parts(self, n_keys) + 2 * self.n_heads * (self.head_dim + self.parts[2]) * n_keys
