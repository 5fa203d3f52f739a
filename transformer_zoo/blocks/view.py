"""What an attention sees of the tokens of one forward pass: found once for all layers that see alike.

Shapes: B batch, Tq queries, Tk keys, H heads.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from transformer_zoo.blocks.cache import KVCache, ProjectedMemory
from transformer_zoo.blocks.masks import causal_mask, check_bias, check_mask, combine_masks, newest, window_mask
from transformer_zoo.blocks.rotary import RotaryPositions, Rotation
from transformer_zoo.kernels.attention import Blocks, blocks_are_wanted, causal_blocks, document_mask


class View(NamedTuple):
    """Mask and bias as `attend` takes them, or blocks in their place; and the rotation of queries and keys."""

    mask: Tensor | None = None
    bias: Tensor | None = None
    is_causal: bool = False
    rotation: Rotation | None = None
    blocks: Blocks | None = None


class BaseAttention(nn.Module):
    """What a stack asks of the attention in its layers: what it sees, and how its queries and keys turn.

    A class of your own sets `n_heads` and `head_dim`, and has `forward(x, *, view, cache)`, of which a stack gives the
    cache in decoders only; there it also has `new_cache`.
    """

    n_heads: int
    head_dim: int
    window: int | None
    rotary: RotaryPositions | None
    dropout: float
    softcap: float | None

    def __init__(self) -> None:
        super().__init__()
        self.window, self.rotary, self.dropout, self.softcap = None, None, 0.0, None

    def sees_like(self, other: nn.Module) -> bool:
        """Whether `view` gives both the same."""
        return (
            type(self) is type(other)
            and self.rotary is other.rotary
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
        start: int | None = None,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KVCache | None = None,
        name: str = "mask",
    ) -> View:
        """What the tokens x (B, Tq, D) see of the memory, or of themselves and of what is in the cache.

        Args:
            mask: booleans broadcastable to (B, H, Tq, Tk), True = may attend; `name` is what an error calls it.
            bias: added to the scores, broadcastable to (B, H, Tq, Tk).
            is_causal: each token sees itself and what came before it, on top of what the mask allows.
            start, positions: the places of x are start, start + 1, ..., or positions (B, Tq); None: from 0 on, or after
                what is in the cache.
            documents: (B, Tq) integers: a token sees only those of its own one. Without cache.
            cache: to which x will be appended. Without a mask it is causal; with one and without is_causal each token
                goes on from a text of its own, whose tokens the mask shows in their order.

        Raises:
            ValueError: a mask that is not boolean, a bias that is, shapes that do not fit, or a memory with rotary, a
                window or a cache.
        """
        if memory is not None and not (self.rotary is None and self.window is None and cache is None):
            raise ValueError("rotary, window and cache are for self-attention; a memory is projected by project_memory")
        n = n_keys = x.size(1)
        if memory is not None:
            n_keys = memory.size(1) if isinstance(memory, Tensor) else memory.keys.size(2)
        elif cache is not None:
            n_keys = cache.n_visible(n)
        if mask is not None or bias is not None:  # before the cache takes anything
            shape = x.size(0), self.n_heads, n, n_keys
            check_mask(mask, shape, name=name)
            check_bias(bias, shape)
        rotation = None
        if self.rotary is not None:
            if start is None:
                start, positions = (0, positions) if cache is None else cache.next_places(n)
            rotation = self.rotary.turn(x, start, positions)
        window = None if self.window is None or self.window >= n_keys else self.window
        alone = is_causal and mask is None and bias is None and cache is None and memory is None
        drops = self.training and self.dropout > 0  # which FlexAttention cannot
        more = documents is not None or window is not None or self.softcap is not None  # than causality
        if alone and more and not drops and blocks_are_wanted(x, self.head_dim):
            return View(rotation=rotation, blocks=causal_blocks(x, documents, window))
        if documents is not None:
            mask = combine_masks(mask, document_mask(documents))  # (B, 1, Tq, Tq)
        goes_on_alone = cache is not None and mask is not None and not is_causal  # each token from a text of its own
        if cache is not None and (is_causal or mask is None):  # slots that are not written yet are never seen
            mask, is_causal = combine_masks(mask, cache.causal_mask(n)), False
        if window is not None and goes_on_alone and mask is not None:
            mask = newest(mask, window)
        elif window is not None:
            keys = torch.arange(n_keys, device=x.device)
            mask = combine_masks(mask, window_mask(keys if cache is None else cache.slots(n), keys, window))
        if is_causal and (mask is not None or n != n_keys):
            mask, is_causal = combine_masks(mask, causal_mask(n, n_keys, device=x.device)), False
        return View(mask, bias, is_causal, rotation)
