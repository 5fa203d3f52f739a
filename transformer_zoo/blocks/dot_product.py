"""Scaled dot-product attention, section 3.2.1 of "Attention Is All You Need".

Shapes: B batch, Tq queries, Tk keys, H heads, Hkv key/value heads, Dh width of a head.
"""

from torch import Tensor

from transformer_zoo.blocks.arguments import check_positive, check_probabilities
from transformer_zoo.blocks.masks import check_bias, check_mask
from transformer_zoo.kernels.dot_product import Options, scaled_dot_product, weigh


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
    """softmax(Q K^T * scale + bias) V, equation 1.
    >>> q, k, v = torch.randn(3, 2, 8, 5, 64)
    >>> torch.allclose(attend(q, k, v), (q @ k.mT / 64**0.5).softmax(-1) @ v, atol=1e-6)
    True

    Args:
        queries: (B, H, Tq, Dh).
        keys, values: (B, Hkv, Tk, Dh). H is a multiple of Hkv, and H / Hkv neighbouring queries share a key head.
        mask: booleans broadcastable to (B, H, Tq, Tk), True = may attend. A query that may attend to nothing gives
            zeros.
        bias: added to the scores, broadcastable to (B, H, Tq, Tk).
        is_causal: query i sees keys 0 to i. It is allowed only without a mask and with Tq == Tk; otherwise kernels
            disagree on its meaning.
        dropout: probability of dropping an attention weight.
        scale: factor of the scores; None: Dh^-0.5.
        softcap: bound of the scores before the bias: softcap * tanh(scores / softcap), as in Gemma 2.

    Returns:
        (B, H, Tq, Dh).

    Raises:
        ValueError: is_causal comes with a mask or with Tq != Tk, a mask is not boolean, or shapes do not fit.
    """
    if not (mask is None and bias is None and scale is None and softcap is None):
        _check(queries, keys, mask, bias, scale, softcap)
    if dropout:
        check_probabilities(dropout=dropout)
    if is_causal and (mask is not None or queries.size(2) != keys.size(2)):
        raise ValueError("is_causal needs Tq == Tk and no mask: fold causality into the mask (causal_mask) instead")
    return scaled_dot_product(queries, keys, values, Options(mask, bias, is_causal, dropout, scale, softcap))


def attention_weights(
    queries: Tensor,
    keys: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """The weights softmax(Q K^T * scale + bias), (B, H, Tq, Tk); arguments as for `attend`.
    >>> attention_weights(torch.ones(1, 1, 1, 64), torch.ones(1, 1, 4, 64))
    tensor([[[[0.2500, 0.2500, 0.2500, 0.2500]]]])
    """
    _check(queries, keys, mask, bias, scale, softcap)
    return weigh(queries, keys, Options(mask, bias, scale=scale, softcap=softcap))


def _check(
    queries: Tensor,
    keys: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    scale: float | None,
    softcap: float | None,
) -> None:
    shape = (*queries.shape[:3], keys.size(2))
    check_mask(mask, shape)
    check_bias(bias, shape)
    if scale is not None or softcap is not None:
        check_positive(scale=scale, softcap=softcap, optional=True)
