"""The stacks: positions, layers and, but for post-norm as in the paper, a norm after the last."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from transformer_zoo.blocks import (
    AlibiBias,
    DecoderLayer,
    Dropout,
    EncoderLayer,
    KVCache,
    LearnedPositions,
    LinearScaling,
    Llama3Scaling,
    ProjectedMemory,
    RelativeBias,
    RotaryPositions,
    Rotation,
    SinusoidalPositions,
    StaticKVCache,
    YarnScaling,
    build_norm,
    combine_masks,
    window_mask,
)
from transformer_zoo.blocks.rotary import Scaling
from transformer_zoo.blocks.tables import Tables
from transformer_zoo.config import ModelConfig
from transformer_zoo.kernels.attention import Blocks, blocks_are_wanted, causal_blocks, document_mask
from transformer_zoo.kernels.derivatives import is_transformed
from transformer_zoo.models.cache import DecoderCache

_LAYER_FIELDS = tuple(inspect.signature(EncoderLayer).parameters)  # a configuration has them under the same names
_LONGEST_TABLE = 8192  # fixed positions beyond are computed when they are asked for


def _layer_options(config: ModelConfig, layer: int) -> dict[str, Any]:
    """What the layers take of a configuration."""
    options = {name: getattr(config, name) for name in _LAYER_FIELDS}
    if config.attention_scale_by_layer:
        options["attention_scale"] = (config.attention_scale or config.d_head**-0.5) / (layer + 1)
    return options


def _build_positions(config: ModelConfig, *, bidirectional: bool) -> nn.Module | None:
    match config.positions:
        case "learned":
            return LearnedPositions(config.max_seq_len, config.d_model, offset=config.position_offset)
        case "sinusoidal":
            return SinusoidalPositions(
                config.d_model,
                layout=config.sinusoid_layout,
                offset=config.position_offset,
                table_size=min(config.max_seq_len, _LONGEST_TABLE),
            )
        case "rotary":
            return _build_rotary(config)
        case "alibi":
            return AlibiBias(config.n_heads)
        case "relative":
            return RelativeBias(
                config.n_heads,
                buckets=config.relative_buckets,
                max_distance=config.relative_max_distance,
                bidirectional=bidirectional,
            )
    return None


def _build_rotary(config: ModelConfig) -> RotaryPositions:
    scaling: Scaling | None = None
    match config.rotary_scaling:
        case "linear":
            scaling = LinearScaling(config.rotary_factor)
        case "llama3":
            scaling = Llama3Scaling(
                config.rotary_factor,
                config.rotary_low_freq_factor,
                config.rotary_high_freq_factor,
                config.rotary_original_max_seq_len,
            )
        case "yarn":
            scaling = YarnScaling(
                config.rotary_factor,
                config.rotary_original_max_seq_len,
                config.rotary_beta_fast,
                config.rotary_beta_slow,
                config.rotary_attention_factor,
                config.rotary_truncate,
            )
    return RotaryPositions(
        config.d_head,
        base=config.rotary_base,
        dim=config.rotary_dim,
        layout=config.rotary_layout,
        scaling=scaling,
        table_size=min(config.max_seq_len, _LONGEST_TABLE),
    )


def _build_norm(config: ModelConfig, wanted: bool) -> nn.Module:
    """The configuration's norm, outside of layers, or nothing."""
    if not wanted:
        return nn.Identity()
    return build_norm(
        config.norm,
        config.d_model,
        eps=config.norm_eps,
        bias=config.norm_bias,
        affine=config.norm_affine,
        unit_offset=config.norm_unit_offset,
    )


class _Stack(nn.Module):
    """What both stacks have around their layers: positions, and norms before the first and after the last."""

    def __init__(self, config: ModelConfig, layers: Iterable[nn.Module], *, bidirectional: bool) -> None:
        super().__init__()
        self.positions = _build_positions(config, bidirectional=bidirectional)
        self.embedding_norm = _build_norm(config, config.embedding_norm)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(layers)
        self.final_norm = _build_norm(config, config.ends_in_norm)

    def _place(self, x: Tensor, start: int, positions: Tensor | None) -> tuple[Tensor, Rotation | None]:
        """x (B, T, D) as the first layer takes it, and the rotation that tells attention of its places, if one does.

        The places are start, start + 1, ...; or the given positions (B, T).
        """
        module, stop = self.positions, start + x.size(1)
        if isinstance(module, Tables):
            module.bring_to(x.device)
        rotary: Rotation | None = None
        if isinstance(module, RotaryPositions):
            rotary = module(start, stop, positions)
        elif isinstance(module, LearnedPositions | SinusoidalPositions):
            x = x + (module(stop)[start:] if positions is None else module(1, positions)).to(x.dtype)
        return self.dropout(self.embedding_norm(x)), rotary

    def _bias(self, x: Tensor, positions: Tensor | None, cache: DecoderCache | None = None) -> Tensor | None:
        """What attention adds to the scores of the newest tokens x at these places, (B, H, T, Tk), if anything."""
        if not isinstance(self.positions, AlibiBias | RelativeBias):
            return None
        if isinstance(self.positions, AlibiBias):
            self.positions.bring_to(x.device)
        if positions is None:
            past = 0 if cache is None else cache.length
            positions = past + torch.arange(x.size(1), device=x.device)[None]  # (1, T)
        positions = torch.atleast_2d(positions).expand(-1, x.size(1))  # (B or 1, T)
        bias: Tensor = self.positions(positions, positions if cache is None else cache.place(positions))
        return bias


class Encoder(_Stack):
    """`n_layers` encoder layers over embedding + position. Shapes: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ModelConfig, n_layers: int) -> None:
        layers = (EncoderLayer(**_layer_options(config, i)) for i in range(n_layers))
        super().__init__(config, layers, bidirectional=True)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """The output of the last layer.

        Args:
            x: (B, T, D), token embeddings.
            mask: booleans broadcastable to (B, H, T, T), True = may attend.
            positions: (B, T); None: counted from the start of each row.
        """
        bias = self._bias(x, positions)
        x, rotary = self._place(x, 0, positions)
        for layer in self.layers:
            x = layer(x, mask=mask, bias=bias, rotary=rotary)
        out: Tensor = self.final_norm(x)
        return out


def _recompute(layer: nn.Module, *args: Any, **options: Any) -> Tensor:
    """What the layer gives, computed again in the backward pass.

    Raises:
        RuntimeError: in the backward pass, where the layer has other weights by then (`torch.func.functional_call`
            lends them for one call): the gradients would be those of the wrong function.
    """
    weights = list(layer.parameters())

    def run(*args: Any, **options: Any) -> Any:
        if any(now is not then for now, then in zip(layer.parameters(), weights, strict=True)):
            raise RuntimeError(
                "recompute: a layer is to be computed again with weights that were lent for the forward pass alone: "
                "take the gradient within torch.func, or set recompute to False"
            )
        return layer(*args, **options)

    out: Tensor = checkpoint(layer if torch.compiler.is_compiling() else run, *args, use_reentrant=False, **options)
    return out


class Decoder(_Stack):
    """`n_layers` decoder layers over embedding + position, with cross-attention or without. (B, T, D) -> (B, T, D).

    `recompute` makes training keep each layer's input only and compute the rest again in the backward pass: much less
    memory for a third more time (Chen et al. 2016).
    """

    def __init__(self, config: ModelConfig, n_layers: int, *, cross_attention: bool = True) -> None:
        layers = (DecoderLayer(**_layer_options(config, i), cross_attention=cross_attention) for i in range(n_layers))
        super().__init__(config, layers, bidirectional=False)
        self.window = config.sliding_window
        self.windowed = range(n_layers) if config.windowed_layers is None else config.windowed_layers
        self.recompute = False

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        positions: Tensor | None = None,
        is_causal: bool = True,
        documents: Tensor | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """x (B, T, D), token embeddings; the rest as for `EncoderDecoder.decode`, masks as for `DecoderLayer`.

        documents: (B, T) integers: a token sees only those of its own one. Without cache.
        """
        past = 0
        if cache is not None and not cache.static:
            past = cache.length
        elif cache is not None and positions is None:
            positions = cache.layers[0].slots(x.size(1))[None]  # (1, T)
        x, rotary = self._place(x, past, positions)
        bias = self._bias(x, positions, cache)
        blocks = near_blocks = near = None  # near: of layers with a sliding window
        if mask is None and is_causal and cache is None and self._takes_blocks(x):
            blocks, near_blocks = self._blocks(x, documents)
        else:
            if documents is not None:
                mask = combine_masks(mask, document_mask(documents))  # (B, 1, T, T)
            near = self._mask_window(mask, x, cache)
        for i, layer in enumerate(self.layers):
            options: dict[str, Any] = {
                "mask": near if i in self.windowed else mask,
                "memory_mask": memory_mask,
                "bias": bias,
                "is_causal": is_causal,
                "rotary": rotary,
                "cache": cache.layers[i] if cache else None,
                "memory_cache": cache.memories[i] if cache else None,
                "blocks": near_blocks if i in self.windowed else blocks,
            }
            if self.recompute and self.training and cache is None and not is_transformed():
                x = _recompute(layer, x, memory, **options)
            else:
                x = layer(x, memory, **options)
        out: Tensor = self.final_norm(x)
        return out

    def _takes_blocks(self, x: Tensor) -> bool:
        """Whether all layers can do with `Blocks` in place of masks."""
        attentions = [layer.attn for layer in self.layers if isinstance(layer, DecoderLayer)]
        if not blocks_are_wanted(x, attentions[0].head_dim) or isinstance(self.positions, AlibiBias | RelativeBias):
            return False
        return not self.training or not any(attn.dropout for attn in attentions)

    def _blocks(self, x: Tensor, documents: Tensor | None) -> tuple[Blocks | None, Blocks | None]:
        """For layers without a sliding window, and with one; None where causality is all there is to say."""
        softcap = any(layer.attn.softcap for layer in self.layers if isinstance(layer, DecoderLayer))
        far = causal_blocks(x, documents) if documents is not None or softcap else None
        is_near = self.window is not None and self.window < x.size(1)
        return far, causal_blocks(x, documents, self.window) if is_near else far

    def _mask_window(self, mask: Tensor | None, x: Tensor, cache: DecoderCache | None) -> Tensor | None:
        """The mask of the layers with a sliding window, for the newest tokens x: (..., T, Tk), or as it was."""
        n_keys = x.size(1) if cache is None else cache.layers[0].n_visible(x.size(1))
        if self.window is None or n_keys <= self.window:
            return mask
        keys = torch.arange(n_keys, device=x.device)
        queries = keys if cache is None else cache.layers[0].slots(x.size(1))
        return combine_masks(mask, window_mask(queries, keys, self.window))

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
        """A cache for `capacity` tokens a row; a memory (B, Ts, D), where there is one, is projected by every layer.

        dtype, device: of keys and values; None: those of the memory's projections, or torch's default.
        """
        caches, memories = [], []
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            attn, cross_attn = layer.attn, layer.cross_attn
            projected = None
            if cross_attn is not None and memory is not None:
                # Laid out once as the products want it, instead of at every step.
                projected = ProjectedMemory(*(x.contiguous() for x in cross_attn.project_memory(memory)))
                # Under autocast projections are narrower than the memory, and the cache holds projections.
                dtype, device = dtype or projected.keys.dtype, device or memory.device
            sizes = batch, attn.n_kv_heads, capacity, attn.head_dim
            new = StaticKVCache if static else KVCache
            caches.append(new.empty(*sizes, device=device, dtype=dtype))
            memories.append(projected)
        made = DecoderCache(caches, memories)
        if isinstance(self.positions, AlibiBias | RelativeBias):
            made.places = torch.zeros(batch, capacity, dtype=torch.int64, device=caches[0].keys.device)
        return made
