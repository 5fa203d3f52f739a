"""Scaled dot-product and multi-head attention, section 3.2 of "Attention Is All You Need".

Shapes: B batch, Tq queries, Tk keys, D width (`d_model`), H heads, Hkv key/value heads, Dh width of a head.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_flags, check_positive, check_probabilities, check_sizes
from transformer_zoo.blocks.cache import KVCache, ProjectedMemory
from transformer_zoo.blocks.derivatives import differentiable, is_plain, is_transformed
from transformer_zoo.blocks.dropout import dropout as drop
from transformer_zoo.blocks.linear import Linear, cpu_has_bfloat16, float32_is_as_fast, in_autocast_dtype
from transformer_zoo.blocks.masks import causal_mask, check_bias, check_mask, combine_masks
from transformer_zoo.blocks.norm import RMSNorm
from transformer_zoo.blocks.rotary import Rotation

PROJECTIONS = ("q", "k", "v", "out")


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """softmax(Q K^T * scale + bias) V, equation 1, by whichever kernel is fastest for the shape.

    Args:
        queries: (B, H, Tq, Dh).
        keys, values: (B, Hkv, Tk, Dh); H is a multiple of Hkv, and H / Hkv neighbouring queries share a key head.
        mask: booleans broadcastable to (B, H, Tq, Tk), True = may attend. A query that may attend to nothing gives
            zeros.
        bias: added to the scores, broadcastable to (B, H, Tq, Tk).
        is_causal: query i sees keys 0 to i. Only without a mask and with Tq == Tk: beyond that, kernels disagree on
            its meaning.
        dropout: probability of dropping an attention weight.
        scale: of the scores; None: Dh^-0.5.
        softcap: bounds the scores before the bias: softcap * tanh(scores / softcap), as in Gemma 2.

    Returns:
        (B, H, Tq, Dh).

    Raises:
        ValueError: is_causal together with a mask or with Tq != Tk, a mask that is not boolean, or shapes that do not
            fit.
    """
    _check_scores(queries, keys, mask, bias)
    if dropout:
        check_probabilities(dropout=dropout)
    if is_causal and (mask is not None or queries.size(2) != keys.size(2)):
        raise ValueError("is_causal needs Tq == Tk and no mask: fold causality into the mask (causal_mask) instead")
    if _is_small_bfloat16(queries):
        wide = (queries.float(), keys.float(), values.float())
        with torch.autocast("cpu", enabled=False):
            out = attend(
                *wide, mask=mask, bias=bias, is_causal=is_causal, dropout=dropout, scale=scale, softcap=softcap
            )
        return out.to(queries.dtype)
    if softcap is not None or _matmul_is_wanted(queries, keys, dropout):
        if is_causal:
            mask = causal_mask(queries.size(2), device=queries.device)
        if queries.device.type == "cpu" and not is_plain():
            keys, values, mask, bias = _fill_vector(keys, values, mask, bias)
        weights = attention_weights(queries, keys, mask=mask, bias=bias, scale=scale, softcap=softcap)
        return drop(weights, dropout) @ _per_query_head(values, queries)  # (B, H, Tq, Dh)
    out = _fused(queries, keys, values, mask, bias, is_causal, dropout, scale)
    if dropout > 0:  # what was dropped is known to the kernel alone
        return out

    def formula(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        seen = causal_mask(queries.size(2), device=queries.device) if is_causal else mask
        weights = attention_weights(queries, keys, mask=seen, bias=bias, scale=scale)
        return weights @ _per_query_head(values, queries)

    return differentiable(out, formula, queries, keys, values, bias)


def _fused(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    is_causal: bool,
    dropout: float,
    scale: float | None,
) -> Tensor:
    """The one call of torch's kernels; arguments as for `attend`."""
    if is_causal and bias is not None:  # the fused kernel is never given is_causal together with a mask or a bias
        mask, is_causal = causal_mask(queries.size(2), device=queries.device), False
    attendable = _attendable(mask)
    if mask is not None and attendable is not None:
        mask = mask | ~attendable
    additive = mask if bias is None else _as_bias(mask, bias, queries.dtype)
    out = F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=None if additive is None else torch.atleast_2d(additive),  # its least number of dimensions
        dropout_p=dropout,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=bool(queries.size(1) != keys.size(1)),  # a tensor while `torch.jit.trace` looks on
    )
    return out if attendable is None else out.masked_fill(~attendable, 0)


def attention_weights(
    queries: Tensor,
    keys: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """softmax(Q K^T * scale + bias) itself, (B, H, Tq, Tk), as the paper writes it; arguments as for `attend`."""
    _check_scores(queries, keys, mask, bias)
    if scale is not None or softcap is not None:
        check_positive(scale=scale, softcap=softcap, optional=True)
    scale = queries.size(-1) ** -0.5 if scale is None else scale
    scores = (queries * scale) @ _per_query_head(keys, queries).transpose(-2, -1)  # (B, H, Tq, Tk)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    if mask is None:
        return scores.softmax(-1)
    # Where nothing may be attended to, softmax would divide zero by zero: let all in, then take all away.
    attendable = _attendable(mask)
    forbidden = ~mask if attendable is None else ~mask & attendable
    if is_transformed():  # under vmap there may be one row of scores for many masks
        scores = scores.masked_fill(forbidden, -torch.inf)
    else:  # adding 0 or -inf in place needs nothing in the backward pass, where filling by a mask fills again
        scores += torch.zeros_like(forbidden, dtype=scores.dtype).masked_fill_(forbidden, -torch.inf)
    weights = scores.softmax(-1)
    return weights if attendable is None else weights * attendable


def _check_scores(queries: Tensor, keys: Tensor, mask: Tensor | None, bias: Tensor | None) -> None:
    if mask is not None or bias is not None:
        shape = (*queries.shape[:3], keys.size(2))
        check_mask(mask, shape)
        check_bias(bias, shape)


def _attendable(mask: Tensor | None) -> Tensor | None:
    """(..., Tq, 1), False for a query that may attend to nothing; None where there is none, if a look is cheap."""
    if mask is None:
        return None
    attendable = mask.any(-1, keepdim=True)
    if mask.device.type == "cpu" and not is_plain() and bool(attendable.all()):
        return None
    return attendable


def _matmul_is_wanted(queries: Tensor, keys: Tensor, dropout: float) -> bool:
    """By `torch.func` and forward mode, of which fused kernels know nothing. It is faster on a CPU, where the fused
    kernel cannot drop weights, and in 16 bits is slow, above all at its gradient.
    """
    if is_plain():
        return not torch.compiler.is_compiling() and is_transformed()
    if queries.device.type != "cpu":
        return False
    n_scores = queries.size(2) * keys.size(2)
    if dropout > 0:
        return n_scores <= _SHORT
    if queries.dtype.itemsize >= 4:
        return False
    if cpu_has_bfloat16():
        return torch.is_grad_enabled() and n_scores <= _MEDIUM
    return n_scores <= _SHORT


_SHORT, _MEDIUM = 128 * 128, 512 * 512


def _is_small_bfloat16(queries: Tensor) -> bool:
    """So narrow that a CPU which multiplies bfloat16 gains nothing by it, as for the projections around it."""
    if queries.dtype != torch.bfloat16 or queries.device.type != "cpu" or is_plain() or not cpu_has_bfloat16():
        return False
    return float32_is_as_fast((queries.size(1) * queries.size(3)) ** 2)


def _fill_vector(
    keys: Tensor, values: Tensor, mask: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Add masked keys up to the width of a CPU's vector: below it, softmax goes element by element, 17 times slower."""
    missing = 64 // keys.element_size() - keys.size(2)
    if missing <= 0:
        return keys, values, mask, bias
    if mask is None:
        mask = torch.ones(keys.size(2), dtype=torch.bool, device=keys.device)
    elif mask.shape[-1:] in ((), (1,)):
        mask = mask.expand(*mask.shape[:-1], keys.size(2))
    if bias is not None and bias.shape[-1:] not in ((), (1,)):
        bias = F.pad(bias, (0, missing))
    keys, values = F.pad(keys, (0, 0, 0, missing)), F.pad(values, (0, 0, 0, missing))
    return keys, values, F.pad(mask, (0, missing)), bias


def _per_query_head(x: Tensor, queries: Tensor) -> Tensor:
    """Repeat key/value heads so that there is one for each query head: (B, Hkv, Tk, Dh) -> (B, H, Tk, Dh)."""
    groups = queries.size(1) // x.size(1)
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)


def _as_bias(mask: Tensor | None, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """The one place where a mask becomes part of the additive bias."""
    bias = bias.to(dtype)
    return bias if mask is None else torch.where(mask, bias, -torch.inf)


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
            return_weights: also return the attention weights, by the slow path, which applies no dropout.

        Returns:
            (B, Tq, D); or that and the weights (B, H, Tq, Tk).

        Raises:
            ValueError: a mask that is not boolean, a bias that is, or shapes that do not fit.
        """
        self.check_mask(x, memory, mask, cache)  # before the cache takes anything
        x = in_autocast_dtype(x)  # once for all projections
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
        if is_causal and (mask is not None or return_weights or x.size(1) != keys.size(2)):
            mask, is_causal = (
                combine_masks(mask, causal_mask(x.size(1), keys.size(2), device=x.device)),
                False,
            )
        if return_weights:
            weights = attention_weights(queries, keys, mask=mask, bias=bias, scale=self.scale, softcap=self.softcap)
            return self._merge_heads(weights @ _per_query_head(values, queries)), weights
        dropout = self.dropout if self.training else 0.0
        heads = attend(
            queries,
            keys,
            values,
            mask=mask,
            bias=bias,
            is_causal=is_causal,
            dropout=dropout,
            scale=self.scale,
            softcap=self.softcap,
        )  # (B, H, Tq, Dh)
        return self._merge_heads(heads)

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
        if mask is None:
            return
        if cache is None:
            n_keys = (x if memory is None else memory).size(1)
        else:
            n_keys = cache.n_visible(x.size(1)) if isinstance(cache, KVCache) else cache.keys.size(2)
        check_mask(mask, (x.size(0), self.n_heads, x.size(1), n_keys), name=name)

    def project_memory(self, memory: Tensor, rotary: Rotation | None = None) -> ProjectedMemory:
        """Keys and values of a memory (B, Tk, d_memory), each (B, Hkv, Tk, Dh), to be used at every decoding step."""
        memory = in_autocast_dtype(memory)
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
