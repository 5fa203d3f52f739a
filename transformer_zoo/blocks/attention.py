"""Multi-head attention, section 3.2.2 of "Attention Is All You Need".

Shapes: B batch, Tq queries, Tk keys, D width (`d_model`), H heads, Hkv key/value heads, Dh width of a head.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from transformer_zoo.blocks.answers import Cut, Own, flops_of_parts
from transformer_zoo.blocks.arguments import check_cut, check_flags, check_positive, check_probabilities, check_sizes
from transformer_zoo.blocks.cache import KVCache, ProjectedMemory, StaticKVCache
from transformer_zoo.blocks.dot_product import attention_weights
from transformer_zoo.blocks.linear import Linear
from transformer_zoo.blocks.masks import causal_mask
from transformer_zoo.blocks.norm import norms_over
from transformer_zoo.blocks.positions import Positions
from transformer_zoo.blocks.rotary import RotaryPositions, Rotation
from transformer_zoo.blocks.view import BaseAttention, View
from transformer_zoo.kernels.attention import attend_by_blocks
from transformer_zoo.kernels.dot_product import Options, per_query_head, scaled_dot_product

PROJECTIONS = ("q", "k", "v", "out")


class Attention(BaseAttention):
    """MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O, section 3.2.2 of the paper.

    W^Q, W^K, W^V and W^O are `q_proj`, `k_proj`, `v_proj` and `out_proj`. This one class does self-attention (without a
    memory), cross-attention (with a memory), one head or many, and grouped key/value heads (Ainslie et al. 2023).
    >>> Attention(512, 8, n_kv_heads=2)(torch.zeros(2, 5, 512), is_causal=True).shape
    torch.Size([2, 5, 512])

    Args:
        d_model: width of the input and of the output.
        n_heads: number of query heads.
        n_kv_heads: number of key/value heads, a divisor of n_heads; None: n_heads.
        head_dim: width of one head; None: d_model / n_heads.
        d_memory: width of the memory; None: d_model.
        bias: whether the projections have a bias, or the names of those that have one, out of "q", "k", "v", "out".
        dropout: probability of dropping an attention weight, 0 in the paper.
        scale: factor of the scores; None: head_dim^-0.5.
        softcap: bound of the scores, as for `attend`.
        clip: bound of the projected queries, keys and values: they are clipped to [-clip, clip]; None: they are not.
        qk_norm: a norm of width head_dim over each head's queries before rotation; the keys get a copy of it (Henry et
            al. 2020). A pair of norms is for queries and for keys.
        qk_norm_over: "head": all heads share the norm; "own_head": each head has its own copy; "all_heads": all heads
            of a token are normalised together, by two norms of width n_heads * head_dim and n_kv_heads * head_dim.
        qk_norm_after_rotation: whether the norms are over rotated queries and keys.
        rotary: rotates queries and keys by their positions; several layers may share it. For self-attention.
        scores: adds a bias by position to this attention alone, such as `RelativeBias`. For self-attention.
        window: number of tokens that each token sees, itself included, up to its own (`window_mask`); None: all.

    Raises:
        ValueError: an argument has a wrong type or is out of range, head counts or widths do not divide, or `bias`
            names a projection that does not exist.
    """

    reads, writes = ("q_proj", "k_proj", "v_proj"), ("out_proj",)
    rows_of_one = reads
    turns = ("q_proj", "k_proj", "q_norm", "k_norm")

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        head_dim: int | None = None,
        d_memory: int | None = None,
        bias: bool | Collection[str] = True,
        dropout: float = 0.0,
        scale: float | None = None,
        softcap: float | None = None,
        clip: float | None = None,
        qk_norm: nn.Module | tuple[nn.Module, nn.Module] | None = None,
        qk_norm_over: str = "head",
        qk_norm_after_rotation: bool = False,
        rotary: RotaryPositions | None = None,
        scores: Positions | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model, n_heads=n_heads)
        check_sizes(n_kv_heads=n_kv_heads, head_dim=head_dim, d_memory=d_memory, window=window, optional=True)
        check_probabilities(dropout=dropout)
        check_positive(scale=scale, softcap=softcap, clip=clip, optional=True)
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if head_dim is None and d_model % n_heads:
            raise ValueError(
                f"d_model {d_model} is not a multiple of n_heads {n_heads}: change one of them or give head_dim"
            )
        if n_heads % n_kv_heads:
            raise ValueError(f"n_heads {n_heads} is not a multiple of n_kv_heads {n_kv_heads}")
        if rotary is not None and not hasattr(rotary, "turn"):
            raise ValueError(f"rotary is {rotary!r}, expected RotaryPositions, or a module that has its `turn`")
        if scores is not None and not getattr(scores, "scores_by_place", False):
            raise ValueError(f"scores is {scores!r}, expected a module such as RelativeBias, called with positions")
        biased = _biased(bias)
        d_memory = d_model if d_memory is None else d_memory
        self.head_dim = d_model // n_heads if head_dim is None else head_dim
        self.n_heads, self.n_kv_heads, self.dropout = n_heads, n_kv_heads, dropout
        self.scale, self.softcap, self.clip = scale, softcap, clip
        self.rotary, self.scores, self.window = rotary, scores, window
        self.q_proj = Linear(d_model, n_heads * self.head_dim, bias="q" in biased)
        self.k_proj = Linear(d_memory, n_kv_heads * self.head_dim, bias="k" in biased)
        self.v_proj = Linear(d_memory, n_kv_heads * self.head_dim, bias="v" in biased)
        self.out_proj = Linear(n_heads * self.head_dim, d_model, bias="out" in biased)
        self.q_norm, self.k_norm = norms_over(qk_norm_over, qk_norm, (n_heads, n_kv_heads))
        self.qk_norm_after_rotation = _check_after(qk_norm_after_rotation, qk_norm, rotary)
        self._norms_are_alike = qk_norm is None or qk_norm_over == "head"
        self._own: Own | None = None  # where other processes have the other heads

    def forward(
        self,
        x: Tensor,
        memory: Tensor | ProjectedMemory | None = None,
        *,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        is_causal: bool = False,
        cache: KVCache | None = None,
        view: View | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from x to the memory; without a memory, from x to itself.

        Args:
            x: (B, Tq, D).
            memory: (B, Tk, d_memory), or the result of `project_memory`; None: x.
            mask: booleans broadcastable to (B, H, Tq, Tk), True = may attend.
            bias: added to the scores, broadcastable to (B, H, Tq, Tk).
            is_causal: each token sees itself and the tokens before it, as far as the mask allows.
            cache: made by `new_cache`. x is appended to it and attends to everything in it. Tk then counts what the
                cache shows, and attention is causal if there is no mask.
            view: made by `view`, used instead of mask, bias and is_causal.
            return_weights: also return the attention weights. This takes the slow path and applies no dropout.

        Returns:
            (B, Tq, D); with `return_weights` a pair of that and the weights (B, H, Tq, Tk).

        Raises:
            ValueError: a mask is not boolean, a bias is boolean, shapes do not fit, or both a cache and a memory are
                given.
        """
        if view is None:
            view = self.view(x, memory, mask=mask, bias=bias, is_causal=is_causal, cache=cache)
        if self._own is not None:
            view = self._of_own_heads(view, self._own)
        queries = self._split_heads(self.q_proj(x), self.q_norm, view.rotation)  # (B, H, Tq, Dh)
        if memory is None or isinstance(memory, Tensor):
            keys, values = self.project_memory(x if memory is None else memory, view.rotation)
        else:
            keys, values = memory
        if cache is not None:
            keys, values = cache.append(keys, values)
        weights = None
        if return_weights or view.blocks is not None:
            heads, weights = self._attend_otherwise(queries, keys, values, view)
        else:
            dropout = self.dropout if self.training else 0.0
            options = Options(*view[:3], dropout, self.scale, self.softcap)
            heads = scaled_dot_product(queries, keys, values, options)  # (B, H, Tq, Dh)
        out: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))  # (B, Tq, D)
        return out if weights is None else (out, weights)

    def _attend_otherwise(
        self, queries: Tensor, keys: Tensor, values: Tensor, view: View
    ) -> tuple[Tensor, Tensor | None]:
        """Attend block by block; or with the weights, which no fast kernel returns."""
        mask, scale, softcap = view.mask, self.scale, self.softcap
        if view.blocks is not None:
            return attend_by_blocks(queries, keys, values, view.blocks, scale=scale, softcap=softcap), None
        if view.is_causal:
            mask = causal_mask(queries.size(2), device=queries.device)
        weights = attention_weights(queries, keys, mask=mask, bias=view.bias, scale=scale, softcap=softcap)
        return weights @ per_query_head(values, queries), weights

    def project_memory(self, memory: Tensor, rotation: Rotation | None = None) -> ProjectedMemory:
        """Keys and values of a memory (B, Tk, d_memory), each (B, Hkv, Tk, Dh). Every decoding step can use them."""
        keys = self._split_heads(self.k_proj(memory), self.k_norm, rotation)
        return ProjectedMemory(keys, self._split_heads(self.v_proj(memory)))

    def _split_heads(self, x: Tensor, norm: nn.Module | None = None, rotation: Rotation | None = None) -> Tensor:
        if self.clip is not None:
            x = x.clamp(-self.clip, self.clip)
        heads = x.view(*x.shape[:2], x.size(-1) // self.head_dim, self.head_dim)  # (B, T, H, Dh)
        if norm is not None and not self.qk_norm_after_rotation:
            heads = norm(heads)
        heads = heads.transpose(1, 2)  # (B, H, T, Dh)
        if rotation is not None:
            heads = rotation.apply(heads)
        if norm is not None and self.qk_norm_after_rotation:
            heads = norm(heads.transpose(1, 2)).transpose(1, 2)
        return heads

    def new_cache(
        self,
        batch: int,
        capacity: int,
        *,
        static: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> KVCache:
        """A cache with space for `capacity` tokens in each of `batch` rows."""
        kind = StaticKVCache if static else KVCache
        return kind.empty(batch, self.n_kv_heads, capacity, self.head_dim, device=device, dtype=dtype)

    def cut(self, n: int, own: Own) -> Cut:
        """Each of n processes computes some of the heads. Norms over several heads leave it whole.

        Raises:
            ValueError: the heads do not divide, or there is dropout, of which a process would draw its heads' alone.
        """
        if not self._norms_are_alike:
            return {}
        check_cut(n, n_heads=self.n_heads, n_kv_heads=self.n_kv_heads)
        if self.dropout:
            raise ValueError(f"dropout of attention weights is {self.dropout}: where heads are cut it must be 0")
        self._own = own
        plan: Cut = {"q_proj": "columns", "k_proj": "columns", "v_proj": "columns", "out_proj": "rows"}
        return plan if self.q_norm is None else {**plan, "q_norm": "alike", "k_norm": "alike"}

    def _of_own_heads(self, view: View, own: Own) -> View:
        """Mask and bias of the heads that this process computes."""

        def heads(x: Tensor | None) -> Tensor | None:
            return x if x is None or x.dim() < 4 or x.size(1) == 1 else own(x, 1)

        return view._replace(mask=heads(view.mask), bias=heads(view.bias))

    def flops(self, n_keys: int) -> int:
        """Operations for one token that attends to `n_keys` keys: projections, scores, and the sum of the values."""
        return flops_of_parts(self, n_keys) + 4 * self.n_heads * self.head_dim * n_keys


def _check_after(after: bool, *needed: nn.Module | tuple[nn.Module, ...] | None) -> bool:
    """Whether norms come after rotation. ValueError: `after` is not a flag, or a part that it needs is missing."""
    check_flags(qk_norm_after_rotation=after)
    if after and None in needed:
        raise ValueError("qk_norm_after_rotation is for a qk_norm beside rotary: give both, or leave it out")
    return after


def _biased(bias: bool | Collection[str]) -> set[str]:
    """The projections that have a bias. ValueError: `bias` is of another type, or names another projection."""
    if not isinstance(bias, bool | Collection) or not (isinstance(bias, bool) or set(bias) <= set(PROJECTIONS)):
        raise ValueError(f"bias is {bias!r}, expected True, False, or names out of {', '.join(PROJECTIONS)}")
    return set(PROJECTIONS if bias is True else bias or ())
