"""Multi-head attention, section 3.2.2 of "Attention Is All You Need".

Shapes: B batch, Tq queries, Tk keys, D width (`d_model`), H heads, Hkv key/value heads, Dh width of a head.
"""

from collections.abc import Collection

from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_flags, check_positive, check_probabilities, check_sizes
from transformer_zoo.blocks.cache import KVCache, ProjectedMemory
from transformer_zoo.blocks.dot_product import attention_weights
from transformer_zoo.blocks.linear import Linear
from transformer_zoo.blocks.masks import causal_mask, check_bias, check_mask, combine_masks
from transformer_zoo.blocks.norm import RMSNorm
from transformer_zoo.blocks.rotary import Rotation
from transformer_zoo.kernels.attention import Blocks, attend_by_blocks
from transformer_zoo.kernels.dot_product import Options, per_query_head, scaled_dot_product

PROJECTIONS = ("q", "k", "v", "out")


class Attention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O, section 3.2.2 of the paper.

    Its W^Q, W^K, W^V and W^O are `q_proj`, `k_proj`, `v_proj` and `out_proj`. One class for self-attention (no memory),
    cross-attention (a memory), one head or many, and grouped key/value heads (Ainslie et al. 2023).

    Args:
        d_model: width of the input and the output.
        n_heads: query heads.
        n_kv_heads: key/value heads, a divisor of n_heads; None: n_heads.
        head_dim: width of one head; None: d_model / n_heads.
        d_memory: width of the memory; None: d_model.
        bias: whether the projections have one; or the names of those that do, out of "q", "k", "v", "out".
        dropout: on the attention weights, 0 in the paper.
        scale: of the scores; None: head_dim^-0.5.
        softcap: of the scores, as for `attend`.
        qk_norm: an RMSNorm over each head's queries and one over its keys (Henry et al. 2020), before rotation.
        norm_eps: of these two.

    Raises:
        ValueError: an argument of another kind or out of range, head counts or widths that do not divide, or a bias for
            a projection that does not exist.
    """

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
        qk_norm: bool = False,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model, n_heads=n_heads)
        check_sizes(n_kv_heads=n_kv_heads, head_dim=head_dim, d_memory=d_memory, optional=True)
        check_probabilities(dropout=dropout)
        check_positive(scale=scale, softcap=softcap, optional=True)
        check_positive(norm_eps=norm_eps)
        check_flags(qk_norm=qk_norm)
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if head_dim is None and d_model % n_heads:
            raise ValueError(
                f"d_model {d_model} is not a multiple of n_heads {n_heads}: change one of them or give head_dim"
            )
        if n_heads % n_kv_heads:
            raise ValueError(f"n_heads {n_heads} is not a multiple of n_kv_heads {n_kv_heads}")
        if not isinstance(bias, bool | Collection) or not (isinstance(bias, bool) or set(bias) <= set(PROJECTIONS)):
            raise ValueError(f"bias is {bias!r}, expected True, False, or names out of {', '.join(PROJECTIONS)}")
        biased = set(PROJECTIONS if bias is True else bias or ())
        d_memory = d_model if d_memory is None else d_memory
        self.head_dim = d_model // n_heads if head_dim is None else head_dim
        self.n_heads, self.n_kv_heads, self.dropout = n_heads, n_kv_heads, dropout
        self.scale, self.softcap = scale, softcap
        self.q_proj = Linear(d_model, n_heads * self.head_dim, bias="q" in biased)
        self.k_proj = Linear(d_memory, n_kv_heads * self.head_dim, bias="k" in biased)
        self.v_proj = Linear(d_memory, n_kv_heads * self.head_dim, bias="v" in biased)
        self.out_proj = Linear(n_heads * self.head_dim, d_model, bias="out" in biased)
        self.q_norm = RMSNorm(self.head_dim, eps=norm_eps) if qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, eps=norm_eps) if qk_norm else None

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        is_causal: bool = False,
        rotary: Rotation | None = None,
        cache: KVCache | ProjectedMemory | None = None,
        blocks: Blocks | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from x to the memory, or to x itself.

        Args:
            x: (B, Tq, D).
            memory: (B, Tk, d_memory); None: x.
            mask: booleans broadcastable to (B, H, Tq, Tk), True = may attend.
            bias: added to the scores, broadcastable to (B, H, Tq, Tk).
            is_causal: each token sees itself and what came before it, on top of what the mask allows.
            rotary: turns queries and keys by the places of x; for self-attention.
            cache: a `KVCache`, to which x is appended and whose tokens are attended to; or the `ProjectedMemory` of
                `project_memory`, in place of the memory. With a KVCache, Tk counts what it shows, and without
                a mask attention is causal.
            blocks: of `causal_blocks`, in place of mask, bias, is_causal and cache; without dropout.
            return_weights: also return the attention weights, by the slow path, which applies no dropout.

        Returns:
            (B, Tq, D); or that and the weights (B, H, Tq, Tk).

        Raises:
            ValueError: a mask that is not boolean, a bias that is, or shapes that do not fit.
        """
        if mask is not None:  # before the cache takes anything
            self.check_mask(x, memory, mask, cache)
        if bias is not None:
            check_bias(bias, self._scores_shape(x, memory, cache))
        queries = self._split_heads(self.q_proj(x), self.q_norm)  # (B, H, Tq, Dh)
        if rotary is not None:
            queries = rotary.apply(queries)
        if isinstance(cache, KVCache):
            if memory is not None:
                raise ValueError("a KVCache is for self-attention; for a memory, give its project_memory as cache")
            if is_causal or mask is None:  # slots that are not written yet are never seen
                mask, is_causal = combine_masks(mask, cache.causal_mask(x.size(1))), False
            keys, values = cache.append(*self.project_memory(x, rotary))
        elif cache is not None:
            keys, values = cache
        else:
            keys, values = self.project_memory(x if memory is None else memory, rotary)
        if blocks is not None:
            return self._merge_heads(
                attend_by_blocks(queries, keys, values, blocks, scale=self.scale, softcap=self.softcap)
            )
        if is_causal and (mask is not None or return_weights or x.size(1) != keys.size(2)):
            mask, is_causal = (
                combine_masks(mask, causal_mask(x.size(1), keys.size(2), device=x.device)),
                False,
            )
        if return_weights:
            weights = attention_weights(queries, keys, mask=mask, bias=bias, scale=self.scale, softcap=self.softcap)
            return self._merge_heads(weights @ per_query_head(values, queries)), weights
        dropout = self.dropout if self.training else 0.0
        options = Options(mask, bias, is_causal, dropout, self.scale, self.softcap)
        return self._merge_heads(scaled_dot_product(queries, keys, values, options))  # of (B, H, Tq, Dh)

    def check_mask(
        self,
        x: Tensor,
        memory: Tensor | None,
        mask: Tensor | None,
        cache: KVCache | ProjectedMemory | None,
        *,
        name: str = "mask",
    ) -> None:
        """What `forward` asks of a mask, under its name; arguments as there."""
        if mask is not None:
            check_mask(mask, self._scores_shape(x, memory, cache), name=name)

    def _scores_shape(
        self, x: Tensor, memory: Tensor | None, cache: KVCache | ProjectedMemory | None
    ) -> tuple[int, int, int, int]:
        """(B, H, Tq, Tk)"""
        if cache is None:
            n_keys = (x if memory is None else memory).size(1)
        else:
            n_keys = cache.n_visible(x.size(1)) if isinstance(cache, KVCache) else cache.keys.size(2)
        return x.size(0), self.n_heads, x.size(1), n_keys

    def project_memory(self, memory: Tensor, rotary: Rotation | None = None) -> ProjectedMemory:
        """Keys and values of a memory (B, Tk, d_memory), each (B, Hkv, Tk, Dh), to be used at every decoding step."""
        keys, values = self._split_heads(self.k_proj(memory), self.k_norm), self._split_heads(self.v_proj(memory))
        return ProjectedMemory(keys if rotary is None else rotary.apply(keys), values)

    def _split_heads(self, x: Tensor, norm: RMSNorm | None = None) -> Tensor:
        heads = x.view(*x.shape[:2], x.size(-1) // self.head_dim, self.head_dim)  # (B, T, H, Dh)
        if norm is not None:
            heads = norm(heads)
        return heads.transpose(1, 2)  # (B, H, T, Dh)

    def _merge_heads(self, heads: Tensor) -> Tensor:
        out: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))  # (B, Tq, D)
        return out
