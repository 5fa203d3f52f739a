"""Scaled dot-product attention, section 3.2.1 of "Attention Is All You Need", by two kernels: matmul and torch's fused.

Shapes: B batch, Tq queries, Tk keys, H heads, Hkv key/value heads, Dh width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.blocks.arguments import check_positive, check_probabilities
from transformer_zoo.blocks.masks import causal_mask, check_bias, check_mask
from transformer_zoo.kernels.attention import fit_kernels
from transformer_zoo.kernels.cpu import cpu_has_bfloat16, float32_is_as_fast
from transformer_zoo.kernels.derivatives import differentiable, is_plain, is_transformed
from transformer_zoo.kernels.dropping import dropout as drop


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
        return (drop(weights, dropout) if dropout else weights) @ per_query_head(values, queries)  # (B, H, Tq, Dh)
    out = _fused(queries, keys, values, mask, bias, is_causal, dropout, scale)
    if dropout > 0:  # what was dropped is known to the kernel alone
        return out

    def formula(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        seen = causal_mask(queries.size(2), device=queries.device) if is_causal else mask
        weights = attention_weights(queries, keys, mask=seen, bias=bias, scale=scale)
        return weights @ per_query_head(values, queries)

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
    width = queries.size(-1)
    if queries.is_cuda:
        scale = width**-0.5 if scale is None else scale
        queries, keys, values = fit_kernels(queries, keys, values, masked=additive is not None)
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
    out = out[..., :width]
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
    scores = (queries * scale) @ per_query_head(keys, queries).transpose(-2, -1)  # (B, H, Tq, Tk)
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


def per_query_head(x: Tensor, queries: Tensor) -> Tensor:
    """Repeat key/value heads so that there is one for each query head: (B, Hkv, Tk, Dh) -> (B, H, Tk, Dh)."""
    groups = queries.size(1) // x.size(1)
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)


def _as_bias(mask: Tensor | None, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """The one place where a mask becomes part of the additive bias."""
    bias = bias.to(dtype)
    return bias if mask is None else torch.where(mask, bias, -torch.inf)
