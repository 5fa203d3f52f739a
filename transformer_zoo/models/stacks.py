"""The stacks: positions, layers, and a norm after the last layer, except in post-norm as in the paper."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from transformer_zoo.blocks import Dropout, KVCache, Positions, ProjectedMemory, View
from transformer_zoo.kernels.derivatives import is_transformed
from transformer_zoo.models.cache import DecoderCache


class _Stack(nn.Module):
    """The common base of both stacks.

    With `recompute`, training keeps only the input of each layer, or of every n-th one, and computes the rest again in
    the backward pass. That takes much less memory and a third more time (gradient checkpointing, Chen et al. 2016).

    Args:
        layers: each has its attention as `attn`; layers may differ in everything except their width.
        positions: added to x, or to the scores of all layers; None: there are none.
        embedding_norm, final_norm: before the first layer and after the last; None: none.
        embedding_proj: from narrower embeddings, after their positions and norm, to the width of the layers; None:
            none.
        dropout: probability of dropping an element of embedding + position.

    Raises:
        ValueError: an attention does not answer what a stack asks.
    """

    labels: ClassVar[dict[str, str]] = {
        "positions": "position embedding", "embedding_norm": "embedding norm",
        "embedding_proj": "embedding to d_model", "final_norm": "final norm",
    }  # fmt: skip
    asked: ClassVar[tuple[str, ...]] = ("view", "sees_like")
    is_causal: ClassVar[bool]
    recompute: int = 0

    def __init__(
        self,
        layers: Iterable[nn.Module],
        *,
        positions: Positions | None = None,
        embedding_norm: nn.Module | None = None,
        embedding_proj: nn.Module | None = None,
        final_norm: nn.Module | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.positions = Positions() if positions is None else positions
        self.embedding_norm = nn.Identity() if embedding_norm is None else embedding_norm
        self.dropout, self.embedding_proj = Dropout(dropout), embedding_proj
        if embedding_proj is not None:  # what comes before it is not part of the residual stream
            self.reads, self.writes = ("layers", "final_norm"), ("embedding_proj", "layers", "final_norm")
        self.layers = nn.ModuleList(layers)
        self.final_norm = nn.Identity() if final_norm is None else final_norm
        for i, layer in enumerate(self.layers):
            attention = getattr(layer, "attn", None)
            if missing := [name for name in self.asked if not hasattr(attention, name)]:
                raise ValueError(
                    f"layer {i}: its attention `attn` is a {type(attention).__name__} without `{missing[0]}`, which a "
                    f"{type(self).__name__} asks for: see blocks.BaseAttention"
                )

    @property
    def scores_by_place(self) -> bool:
        """Whether all layers or one of them have scores by position; a cache then keeps positions."""
        own = (getattr(layer.attn, "scores", None) for layer in self.layers)
        return self.positions.scores_by_place or any(scores is not None for scores in own)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        positions: Tensor | None = None,
        is_causal: bool | None = None,
        documents: Tensor | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """The output of the last layer, (B, T, D).

        Args:
            x: (B, T, D), token embeddings.
            memory: (B, Ts, D), for a decoder with cross-attention.
            mask: booleans broadcastable to (B, H, T, Tk), True = may attend.
            memory_mask: booleans broadcastable to (B, H, T, Ts).
            positions: (B, T); None: counted from the start of each row, or from the cache's length.
            is_causal: None: True in a decoder.
            documents: (B, T) integers: a token sees only tokens of its own document. Not with a cache.
            cache: made by `new_cache`; the tokens are appended to it.
        """
        start = 0
        if positions is None and cache is not None:
            start, positions = cache.layers[0].next_places(x.size(1))
        bias = places = None
        if self.scores_by_place:
            queries = _places(x, start, positions)
            places = queries, queries if cache is None else cache.place(queries)
            bias = self.positions(*places) if self.positions.scores_by_place else None
        x = self.dropout(self.embedding_norm(self.positions.add(x, start, positions)))
        if self.embedding_proj is not None:
            x = self.embedding_proj(x)
        caches = [None] * len(self.layers) if cache is None else cache.layers
        kept = [None] * len(self.layers) if cache is None else cache.memories
        is_causal = self.is_causal if is_causal is None else is_causal
        views = self._views(
            x, caches, mask=mask, bias=bias, is_causal=is_causal, start=start, positions=positions,
            documents=documents, places=places,
        )  # fmt: skip
        every = self.recompute if self.training and cache is None and not is_transformed() else 0
        for i, (layer, view, held, projected) in enumerate(zip(self.layers, views, caches, kept, strict=True)):
            given = x, memory if projected is None else projected
            if every and i % every == 0:
                x = _recompute(layer, *given, memory_mask=memory_mask, view=view)
            else:
                x = layer(*given, memory_mask=memory_mask, view=view, cache=held)
        out: Tensor = self.final_norm(x)
        return out

    def _views(self, x: Tensor, caches: Sequence[KVCache | None], **seen: Any) -> list[View]:
        """What the attention of each layer sees of x, computed once for all layers that see the same."""
        found: list[tuple[Any, View]] = []
        views = []
        for layer, cache in zip(self.layers, caches, strict=True):
            attention: Any = layer.attn
            view = next((view for other, view in found if attention.sees_like(other)), None)
            if view is None:
                view = attention.view(x, cache=cache, **seen)
                found.append((attention, view))
            views.append(view)
        return views


class Encoder(_Stack):
    """Encoder layers over embedding + position: every token sees every other. (B, T, D) -> (B, T, D).
    >>> layers = [tz.blocks.EncoderLayer.paper(512, 8, 2048) for _ in range(2)]
    >>> Encoder(layers, positions=tz.blocks.SinusoidalPositions(512))(torch.zeros(2, 5, 512)).shape
    torch.Size([2, 5, 512])
    """

    is_causal = False


def _places(x: Tensor, start: int, positions: Tensor | None) -> Tensor:
    """Positions of the tokens x (B, T, D): (B or 1, T)."""
    if positions is None:
        positions = start + torch.arange(x.size(1), device=x.device)
    rows: Tensor = torch.atleast_2d(positions)
    return rows.expand(-1, x.size(1))


def _recompute(layer: nn.Module, *args: Any, **options: Any) -> Tensor:
    """The layer's output, which the backward pass computes again.

    Raises:
        RuntimeError: in the backward pass, if the layer has other weights by then (`torch.func.functional_call` gives
            it weights for one call): the gradients would be those of the wrong function.
    """
    weights = list(layer.parameters())

    def run(*args: Any, **options: Any) -> Any:
        is_sharded = hasattr(layer, "unshard")  # its weights come and go, the same ones
        if not is_sharded and any(now is not then for now, then in zip(layer.parameters(), weights, strict=True)):
            raise RuntimeError(
                "recompute: a layer is to be computed again with weights that it had for the forward pass only: "
                "take the gradient within torch.func, or set recompute to False"
            )
        return layer(*args, **options)

    out: Tensor = checkpoint(layer if torch.compiler.is_compiling() else run, *args, use_reentrant=False, **options)
    return out


class Decoder(_Stack):
    """Decoder layers over embedding + position, with cross-attention or without: (B, T, D) -> (B, T, D).
    >>> layers = [tz.blocks.DecoderLayer.paper(512, 8, 2048) for _ in range(2)]
    >>> Decoder(layers)(torch.zeros(2, 5, 512), torch.zeros(2, 7, 512)).shape
    torch.Size([2, 5, 512])
    """

    asked = (*_Stack.asked, "new_cache")
    is_causal = True

    def new_cache(
        self,
        batch: int,
        capacity: int,
        *,
        memory: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        static: bool = False,
    ) -> DecoderCache:
        """A cache for `capacity` tokens a row. Every layer projects the memory (B, Ts, D), if there is one.

        dtype, device: of keys and values; None: those of the memory's projections, or torch's default.
        """
        caches, memories = [], []
        for layer in self.layers:
            attention: Any = layer.attn
            cross: Any = layer.cross_attn
            projected = None
            if memory is not None and cross is not None:
                # The layout that the products need is made once, not at every step.
                projected = ProjectedMemory(*(part.contiguous() for part in cross.project_memory(memory)))
                # Under autocast, projections have a narrower type than the memory, and the cache holds projections.
                dtype, device = dtype or projected.keys.dtype, device or memory.device
            caches.append(attention.new_cache(batch, capacity, static=static, device=device, dtype=dtype))
            memories.append(projected)
        made = DecoderCache(caches, memories)
        if self.scores_by_place:
            made.places = torch.zeros(batch, capacity, dtype=torch.int64, device=device)
        return made
