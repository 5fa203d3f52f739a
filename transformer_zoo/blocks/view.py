"""What an attention sees of the tokens of one forward pass. It is computed once for all layers that see the same.

Shapes: B batch, Tq queries, Tk keys, H heads.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from transformer_zoo.blocks.cache import KVCache, ProjectedMemory
from transformer_zoo.blocks.masks import causal_mask, check_bias, check_mask, combine_masks, newest, window_mask
from transformer_zoo.blocks.positions import Positions
from transformer_zoo.blocks.rotary import RotaryPositions, Rotation
from transformer_zoo.kernels.attention import Blocks, blocks_are_wanted, causal_blocks, document_mask

Places = tuple[Tensor, Tensor]
"""Positions of queries and of keys, (B or 1, Tq) and (B or 1, Tk) int64."""


class View(NamedTuple):
    """Mask and bias as `attend` takes them, or blocks instead of a mask; and the rotation of queries and keys."""

    mask: Tensor | None = None
    bias: Tensor | None = None
    is_causal: bool = False
    rotation: Rotation | None = None
    blocks: Blocks | None = None


class BaseAttention(nn.Module):
    """What a stack asks the attention in its layers: what it sees, and how its queries and keys are rotated.

    A class of your own sets `n_heads` and `head_dim` and has `forward(x, *, view, cache)`. A stack passes the cache in
    decoders only; there the class also needs `new_cache`.
    >>> class Mean(BaseAttention):
    ...     n_heads, head_dim = 1, 8
    ...     def forward(self, x, *, view=None, cache=None): return x.mean(1, keepdim=True).expand_as(x)
    >>> EncoderLayer(Mean(), FeedForward(8, 32), LayerNorm(8))(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    n_heads: int
    head_dim: int
    window: int | None
    rotary: RotaryPositions | None
    scores: Positions | None
    dropout: float
    softcap: float | None

    def __init__(self) -> None:
        super().__init__()
        self.window, self.rotary, self.scores, self.dropout, self.softcap = None, None, None, 0.0, None

    def sees_like(self, other: nn.Module) -> bool:
        """Whether `view` gives the same for both."""
        return (
            type(self) is type(other)
            and self.rotary is other.rotary
            and self.scores is other.scores
            and (self.window, self.dropout, self.softcap) == (other.window, other.dropout, other.softcap)
            and (self.n_heads, self.head_dim) == (other.n_heads, other.head_dim)
        )

    def view(
        self,
        x: Tensor,
        memory: Tensor | ProjectedMemory | None = None,
        *,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        is_causal: bool = False,
        start: int = 0,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KVCache | None = None,
        places: Places | None = None,
        name: str = "mask",
    ) -> View:
        """What the tokens x (B, Tq, D) see of the memory, or of themselves and of the cache.

        Args:
            mask: booleans broadcastable to (B, H, Tq, Tk), True = may attend; an error message calls it `name`.
            bias: added to the scores, broadcastable to (B, H, Tq, Tk).
            is_causal: each token sees itself and the tokens before it, as far as the mask allows.
            start, positions: positions are start (0, or the length of the cache), start + 1, ..., or positions (B, Tq).
            documents: (B, Tq) integers: a token sees only tokens of its own document. Not with a cache.
            cache: x will be appended to it. Without a mask attention is causal. With a mask and without is_causal, each
                token continues a text of its own, whose tokens the mask shows in order.
            places: positions of queries and keys, (B or 1, Tq) and (B or 1, Tk), for `scores`; None: counted from the
                start.

        Raises:
            ValueError: a mask is not boolean, a bias is boolean, shapes do not fit, or a memory comes with rotary,
                scores, a window or a cache.
        """
        if memory is not None and any(one is not None for one in (self.rotary, self.scores, self.window, cache)):
            raise ValueError(
                "rotary, scores, window and cache are for self-attention; a memory is projected by project_memory"
            )
        n = n_keys = x.size(1)
        if memory is not None:
            n_keys = memory.size(1) if isinstance(memory, Tensor) else memory.keys.size(2)
        elif cache is not None:
            n_keys = cache.n_visible(n)
        if self.scores is not None:
            own = self.scores(*(places or _counted(x, n_keys, cache)))
            bias = own if bias is None else bias + own
        if mask is not None or bias is not None:  # before the cache takes anything
            shape = x.size(0), self.n_heads, n, n_keys
            check_mask(mask, shape, name=name)
            check_bias(bias, shape)
        if not start and positions is None and cache is not None:
            start, positions = cache.next_places(n)
        rotation = None if self.rotary is None else self.rotary.turn(x, start, positions)
        # In a graph for all lengths it is always there.
        is_narrow = self.window is not None and (torch.compiler.is_exporting() or self.window < n_keys)
        window = self.window if is_narrow else None
        alone = is_causal and mask is None and bias is None and cache is None and memory is None
        special = documents is not None or window is not None or self.softcap is not None
        if alone and special and not (self.training and self.dropout) and blocks_are_wanted(x, self.head_dim):
            return View(rotation=rotation, blocks=causal_blocks(x, documents, window))
        if documents is None and window is None and cache is None and (not is_causal or (mask is None and n == n_keys)):
            return View(mask, bias, is_causal, rotation)
        return View(_allowed(mask, x, n_keys, is_causal, window, documents, cache), bias, rotation=rotation)


def _counted(x: Tensor, n_keys: int, cache: KVCache | None) -> Places:
    """The positions of x and of all keys if nothing is padding."""
    keys = torch.arange(n_keys, device=x.device)[None]
    return (keys if cache is None else cache.slots(x.size(1))[None]), keys


def _allowed(
    mask: Tensor | None,
    x: Tensor,
    n_keys: int,
    is_causal: bool,
    window: int | None,
    documents: Tensor | None,
    cache: KVCache | None,
) -> Tensor | None:
    """The part of the mask that lies before a token, in its own document, and within the window."""
    n = x.size(1)
    is_causal |= cache is not None and mask is None  # slots that are not written yet are never seen
    if documents is not None:
        mask = combine_masks(mask, document_mask(documents))  # (B, 1, Tq, Tq)
    if window is not None and mask is not None and cache is not None and not is_causal:
        return newest(mask, window)  # each token goes on from a text of its own
    if is_causal:
        mask = combine_masks(mask, causal_mask(n, n_keys, device=x.device) if cache is None else cache.causal_mask(n))
    if window is not None:
        keys = torch.arange(n_keys, device=x.device)
        mask = combine_masks(mask, window_mask(keys if cache is None else cache.slots(n), keys, window))
        if cache is None and not is_causal:  # on both sides
            mask = combine_masks(mask, window_mask(-keys, -keys, window))
    return mask
