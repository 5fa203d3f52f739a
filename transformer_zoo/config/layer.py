"""A layer, and a stack of layers that are alike or differ."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from transformer_zoo.config.attention import AttentionSpec, SelfAttentionSpec
from transformer_zoo.config.feed_forward import FeedForwardSpec, FfnSpec
from transformer_zoo.config.norm import LayerNormSpec, NormSpec
from transformer_zoo.config.positions import PositionsSpec, RelativeSpec, RotarySpec, SinusoidalSpec
from transformer_zoo.config.spec import Context, Spec
from transformer_zoo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class LayerSpec(Spec):
    """What may differ from one layer of a stack to the next. A decoder attends to a memory as it attends to itself.
    >>> near, far = (LayerSpec(attention=AttentionSpec(n_heads=4, window=window)) for window in (16, None))
    >>> config = tz.get_config("gpt-nano", layer=(near, far))
    """

    attention: SelfAttentionSpec = AttentionSpec()
    """Self-attention."""
    ffn: FfnSpec = FeedForwardSpec()
    """Feed-forward."""
    positions: RotarySpec | RelativeSpec | Literal["stack"] | None = "stack"
    """Positions of this layer instead of the stack's: what rotates its queries and keys, nothing, or scores of its own,
    as in umT5."""
    attention_norm: bool = True
    """Whether its attention has a norm. ModernBERT's first attention follows the embedding's norm directly and has
    none."""


@dataclass(frozen=True, kw_only=True)
class StackSpec(Spec):
    """The layers of an encoder or a decoder and the parts around them. The defaults are the paper's.
    >>> config = EncoderDecoderConfig(vocab_size=100, encoder=StackSpec(n_layers=12), decoder=StackSpec(n_layers=2))

    Raises:
        UserError: a field has a wrong type or an impossible value, or more layers are described than there are.
    """

    counts = ("n_layers",)

    n_layers: int = 6
    """Number of layers in the stack."""
    layer: LayerSpec | tuple[LayerSpec, ...] = LayerSpec()
    """One spec for all layers, or several that alternate: two give every other layer, as many as there are layers give
    each."""
    positions: PositionsSpec | None = SinusoidalSpec()
    """How the model knows where a token stands."""
    norm: NormSpec = LayerNormSpec()
    """The norms in all layers and around them."""
    norm_position: Literal["post", "pre", "both", "out", "parallel", "parallel_shared", "pre_carried"] = "post"
    """"post": LayerNorm(x + Sublayer(x)) as in the paper; "pre": x + Sublayer(LayerNorm(x)), and a norm at the end. The
    others have a norm at the end too. "both": x + Norm'(Sublayer(Norm(x))), as in Gemma 2; "out": x +
    Norm(Sublayer(x)), as in OLMo 2; "parallel": x + Attention(Norm(x)) + FFN(Norm'(x)), as in GPT-NeoX;
    "parallel_shared": the same with one norm for both, as in some StableLM; "pre_carried": Norm(x) + Sublayer(Norm(x)),
    as in some BLOOM."""
    final_norm: bool | None = None
    """Whether there is a norm after the last layer; None: unless `norm_position` is "post"."""
    embedding_norm: bool = False
    """Whether there is a norm over embedding + position, before the first layer."""
    residual_scale: float | None = None
    """Factor of what each sublayer adds, as in Granite; None: 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        turns = self.turns
        if not 1 <= len(turns) <= self.n_layers:
            raise UserError(f"layer describes {len(turns)} layers, and there are {self.n_layers}")
        shared = self.positions if self.positions is None or self.positions.turns else "stack"
        same = [replace(turn, positions="stack") if turn.positions == shared else turn for turn in turns]
        repeats = (n for n in range(1, len(same) + 1) if all(turn == same[i % n] for i, turn in enumerate(same)))
        n = next(repeats)  # of which the first n are all that there are
        object.__setattr__(self, "layer", tuple(same[:n]) if n > 1 else same[0])

    @property
    def turns(self) -> tuple[LayerSpec, ...]:
        """The layers that alternate."""
        return self.layer if isinstance(self.layer, tuple) else (self.layer,)

    @cached_property
    def layers(self) -> tuple[LayerSpec, ...]:
        return tuple(self.turns[i % len(self.turns)] for i in range(self.n_layers))

    @property
    def ends_in_norm(self) -> bool:
        """Whether there is a norm after the last layer."""
        return self.norm_position != "post" if self.final_norm is None else self.final_norm

    def positions_of(self, layer: LayerSpec) -> PositionsSpec | None:
        """How the attention of one of the layers, or its input, knows positions."""
        return self.positions if isinstance(layer.positions, str) else layer.positions

    def around(self, layer: LayerSpec, context: Context) -> Context:
        """The numbers around the parts of one of the layers."""
        return replace(context, n_heads=layer.attention.n_heads, head_dim=layer.attention.width(context.d_model))

    def check(self, context: Context) -> None:
        for layer in dict.fromkeys(self.layers):
            around = self.around(layer, context)
            layer.attention.check(around)
            layer.ffn.check(around)
            if (positions := self.positions_of(layer)) is not None:
                positions.check(around)
                has_others = (around.n_heads, around.head_dim) != (context.n_heads, context.head_dim)
                if has_others and positions is self.positions and "n_heads" in positions.takes:
                    raise UserError(f"layers with other heads than the first cannot have {positions.kind()} positions")
            if isinstance(layer.positions, RelativeSpec) and "scores" not in layer.attention.takes:
                raise UserError(f"{layer.attention.kind()} takes no scores of a layer's own: set layer.positions")
            turns = positions is not None and positions.turns
            if getattr(layer.attention, "qk_norm_after_rotation", False) and not turns:
                raise UserError("qk_norm_after_rotation has no effect without rotary positions: leave it out")
            if layer.positions is None and (self.positions is None or not self.positions.turns):
                raise UserError("layer.positions is none, and has no effect where no other layer has rotary ones")
