"""Scaled dot-product attention: the two products of the formula on a CPU if they are faster, otherwise torch's kernels.

Shapes: B batch, Tq queries, Tk keys, H heads, Hkv key/value heads, Dh width of a head.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.kernels.attention import fit_kernels
from transformer_zoo.kernels.cpu import cpu_has_bfloat16, float32_is_as_fast
from transformer_zoo.kernels.derivatives import differentiable, is_plain
from transformer_zoo.kernels.dropping import dropout as drop


class Options(NamedTuple):
    """The arguments of the formula besides its three tensors.

    mask: booleans, True = may attend. bias: added to the scores. Both are broadcastable to (B, H, Tq, Tk). scale:
        factor of the scores; None: Dh^-0.5. softcap: bounds the scores before the bias. dropout: probability for the
        weights.
    """

    mask: Tensor | None = None
    bias: Tensor | None = None
    is_causal: bool = False
    dropout: float = 0.0
    scale: float | None = None
    softcap: float | None = None


def formula(queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
    """softmax(Q K^T * scale + bias) V: queries (B, H, Tq, Dh), keys and values (B, Hkv, Tk, Dh) -> (B, H, Tq, Dh).

    A query that may attend to nothing gives zeros.
    """
    weights = weigh(queries, keys, options)
    if options.dropout:
        weights = F.dropout(weights, options.dropout)
    return weights @ per_query_head(values, queries)


def weigh(queries: Tensor, keys: Tensor, options: Options) -> Tensor:
    """The softmax alone, (B, H, Tq, Tk)."""
    scores, mask = score(queries, keys, options), _mask(queries, options)
    if mask is None:
        return scores.softmax(-1)
    # If nothing may be attended to, softmax would divide zero by zero. So all is allowed, and the result set to zero.
    attendable = mask.any(-1, keepdim=True)
    return scores.masked_fill(~mask & attendable, -torch.inf).softmax(-1) * attendable


def score(queries: Tensor, keys: Tensor, options: Options) -> Tensor:
    """Q K^T * scale + bias, (B, H, Tq, Tk); with a soft cap softcap * tanh(Q K^T * scale / softcap) + bias."""
    scale = queries.size(-1) ** -0.5 if options.scale is None else options.scale
    scores = (queries * scale) @ per_query_head(keys, queries).transpose(-2, -1)
    if options.softcap is not None:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    return scores if options.bias is None else scores + options.bias.to(scores.dtype)


def per_query_head(x: Tensor, queries: Tensor) -> Tensor:
    """Repeat key/value heads so that there is one for each query head: (B, Hkv, Tk, Dh) -> (B, H, Tk, Dh)."""
    groups = queries.size(1) // x.size(1)
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)


def _mask(queries: Tensor, options: Options) -> Tensor | None:
    """What may be attended to, causality included."""
    if not options.is_causal:
        return options.mask
    return torch.ones(queries.size(2), queries.size(2), dtype=torch.bool, device=queries.device).tril()


def scaled_dot_product(queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
    """`formula`, in the fastest way for the shape and the device."""
    if is_plain():
        fused = torch.compiler.is_compiling() and options.softcap is None
        return (_fused if fused else formula)(queries, keys, values, options)
    on_cpu = queries.device.type == "cpu"
    if on_cpu and queries.dtype == torch.bfloat16 and _is_narrow(queries):
        with torch.autocast("cpu", enabled=False):
            out = scaled_dot_product(queries.float(), keys.float(), values.float(), options)
        return out.to(queries.dtype)
    if options.softcap is not None or (on_cpu and _products_are_faster(queries, keys, options.dropout)):
        return _products(queries, keys, values, options)
    out = _fused(queries, keys, values, options)
    if options.dropout or not torch.is_grad_enabled():  # only the kernel knows what was dropped
        return out

    def plain(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        return formula(queries, keys, values, options._replace(bias=bias))

    return differentiable(out, plain, queries, keys, values, options.bias)


def _is_narrow(queries: Tensor) -> bool:
    """So narrow that a CPU with bfloat16 products gains nothing by them, as in the projections around it."""
    width = queries.size(1) * queries.size(3)
    return cpu_has_bfloat16() and float32_is_as_fast(width**2)


_SHORT, _MEDIUM = 128 * 128, 512 * 512


def _products_are_faster(queries: Tensor, keys: Tensor, dropout: float) -> bool:
    """For a CPU, whose fused kernel cannot drop weights, and has a slow gradient in 16 bits."""
    if dropout > 0 or queries.dtype.itemsize >= 4 or not torch.is_grad_enabled():
        return dropout > 0
    return queries.size(2) * keys.size(2) <= (_MEDIUM if cpu_has_bfloat16() else _SHORT)


def _products(queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
    """The formula with fewer passes over the scores."""
    scores, mask, attendable = score(queries, keys, options), _mask(queries, options), None
    if mask is not None:
        attendable = _attendable(mask)
        forbidden = ~mask if attendable is None else ~mask & attendable
        # Adding 0 or -inf in place needs nothing in the backward pass; masked filling would fill again.
        scores += torch.zeros_like(forbidden, dtype=scores.dtype).masked_fill_(forbidden, -torch.inf)
    weights = scores.softmax(-1)
    if attendable is not None:
        weights = weights * attendable
    if options.dropout:
        weights = drop(weights, options.dropout)
    return weights @ per_query_head(values, queries)


def _attendable(mask: Tensor) -> Tensor | None:
    """(..., Tq, 1), False for a query that may attend to nothing; None if there is none and looking is cheap."""
    attendable = mask.any(-1, keepdim=True)
    if mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(attendable.all()):
        return None
    return attendable


def _fused(queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
    """The one call of torch's kernels."""
    mask, is_causal, scale = options.mask, options.is_causal, options.scale
    if is_causal and options.bias is not None:  # never is_causal together with a mask or a bias
        mask, is_causal = _mask(queries, options), False
    attendable = None if mask is None else _attendable(mask)
    if mask is not None and attendable is not None:
        mask = mask | ~attendable
    additive = mask if options.bias is None else _as_bias(mask, options.bias, queries.dtype)
    width = values.size(-1)
    if queries.is_cuda:
        scale = queries.size(-1) ** -0.5 if scale is None else scale
        queries, keys, values = fit_kernels(queries, keys, values, masked=additive is not None)
    out = F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=None if additive is None else torch.atleast_2d(additive),  # its least number of dimensions
        dropout_p=options.dropout,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=queries.size(1) != keys.size(1),
    )
    if out.size(-1) > width:
        out = out[..., :width]
    return out if attendable is None else out.masked_fill(~attendable, 0)


def _as_bias(mask: Tensor | None, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """The one function in which a mask becomes part of the additive bias."""
    bias = bias.to(dtype)
    return bias if mask is None else torch.where(mask, bias, -torch.inf)


# Gain over torch's scaled_dot_product_attention, forward and backward (recipes/benchmarks/kernels.py; Intel Xeon with
# AMX, torch 2.13, one thread | two; one machine). (B, H, T) with heads of 64 and padding: with dropout (16, 8, 64) 1.7
# | 1.9 in float32, 2.7 | 2.6 in bfloat16, (1, 12, 512) 1.5 | 2.0 and 3.2 | 3.3; without it in bfloat16 (16, 8, 64) 6.1
# | 6.1, (2, 8, 256) 2.4 | 2.3, (1, 12, 512) 2.0 | 2.0. Heads of 16 in bfloat16, another length at each step: 5.0 | 4.8.
