"""Attention on a GPU without scores in memory: blocks instead of masks, and tensors in the form that kernels take.

Shapes: B batch, T tokens, Tq queries, Tk keys, H heads, Hkv key/value heads, Dh width of a head.

`document_mask` is the formula of what packed documents allow. A mask is read for every score and excludes the fastest
kernel. `Blocks` say the same about 128 x 128 scores at a time. FlexAttention (Dong et al. 2024) then skips blocks that
nobody may see, and needs no mask in blocks that all may see.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

_LEAST_WIDTH = 16  # width of a head, for FlexAttention
_WIDEST = 256  # width of a head, for FlashAttention


def document_mask(documents: Tensor) -> Tensor:
    """(B, T) numbers of documents -> (B, 1, T, T) booleans: True if query and key are in the same document."""
    return documents[:, None, :, None] == documents[:, None, None, :]


class Blocks(NamedTuple):
    """What may be attended to, in FlexAttention's form; it includes causality."""

    mask: "BlockMask"


def blocks_are_wanted(x: Tensor, head_dim: int) -> bool:
    """Whether to use FlexAttention if more than causality is needed. It is a kernel only when compiled.

    FlexAttention on a CPU has no gradient.
    """
    return torch.compiler.is_compiling() and x.device.type == "cuda" and head_dim >= _LEAST_WIDTH


def causal_blocks(x: Tensor, documents: Tensor | None = None, window: int | None = None) -> Blocks:
    """Each token of x (B, T, D) sees itself and earlier tokens in its own document, at most `window` - 1 tokens
    back."""
    from torch.nn.attention.flex_attention import create_block_mask  # takes long to import

    def may_see(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = key <= query
        if window is not None:
            seen = seen & (key > query - window)
        if documents is not None:
            seen = seen & (documents[batch, query] == documents[batch, key])
        return seen

    n = x.size(1)
    rows = None if documents is None else x.size(0)
    return Blocks(create_block_mask(may_see, rows, None, n, n, device=x.device))


def attend_by_blocks(
    queries: Tensor, keys: Tensor, values: Tensor, blocks: Blocks, *, scale: float | None, softcap: float | None
) -> Tensor:
    """Attention (B, H, T, Dh) of queries (B, H, T, Dh), keys and values (B, Hkv, T, Dh); other arguments as for
    `attend`."""
    from torch.nn.attention.flex_attention import flex_attention

    def capped(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        assert softcap is not None
        return softcap * torch.tanh(score / softcap)

    change: Callable[..., Tensor] | None = None if softcap is None else capped
    grouped = queries.size(1) != keys.size(1)
    queries, keys = queries.to(values.dtype), keys.to(values.dtype)  # under autocast norms and rotations are wider
    out = flex_attention(queries, keys, values, change, blocks.mask, scale=scale, enable_gqa=grouped)
    assert isinstance(out, Tensor)
    return out


def fit_kernels(queries: Tensor, keys: Tensor, values: Tensor, *, masked: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The same tensors in a form that one of a GPU's fused kernels takes; otherwise torch would hold all scores in
    memory.

    Heads whose width is not a multiple of 8 get zeros, which change no score. FlashAttention knows groups of queries
    that share a key head. Kernels for masks, float32 or wide heads know them only from torch 2.14 on; before that each
    query head gets keys of its own.

    Args:
        queries: (B, H, Tq, Dh).
        keys, values: (B, Hkv, Tk, Dh).
        masked: whether there is a mask or a bias.

    Returns:
        (B, H, Tq, Dh') and twice (B, H or Hkv, Tk, Dh'), Dh' >= Dh.
    """
    missing = -queries.size(-1) % 8
    if missing:
        queries, keys, values = (F.pad(x, (0, missing)) for x in (queries, keys, values))
    groups = queries.size(1) // keys.size(1)
    takes_groups = not masked and queries.dtype.itemsize == 2 and queries.size(-1) <= _WIDEST
    if groups > 1 and not takes_groups:
        keys, values = (x.repeat_interleave(groups, dim=1) for x in (keys, values))
    return queries, keys, values
