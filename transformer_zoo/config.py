"""What a model is, as data: importable without torch, written to a run, read back, refused when a field is wrong."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from transformer_zoo.errors import UserError

CHOICES: dict[str, tuple[str, ...]] = {
    "activation": ("relu", "gelu", "gelu_tanh", "silu"),
    "norm": ("layernorm", "rmsnorm"),
    "norm_position": ("post", "pre"),
    "positions": ("sinusoidal", "learned"),
    "sinusoid_layout": ("interleaved", "halves"),
    "share_embeddings": ("all", "decoder", "none"),
}
PROBABILITIES = ("dropout", "attention_dropout", "activation_dropout")


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig:
    """The encoder-decoder of "Attention Is All You Need" (Vaswani et al. 2017); the defaults are its base model.

    Raises:
        UserError: a field has a wrong type, an impossible value, or does not fit another.
    """

    vocab_size: int
    """Source vocabulary, and the target's too unless `target_vocab_size` is given."""
    target_vocab_size: int | None = None
    """Target vocabulary, where the two sides have one each."""
    d_model: int = 512
    """Width of the residual stream."""
    n_heads: int = 8
    """Attention heads of each layer."""
    n_kv_heads: int | None = None
    """Key/value heads; None: as many as `n_heads`. Fewer share each among n_heads / n_kv_heads queries."""
    head_dim: int | None = None
    """Width of one head; None: d_model / n_heads."""
    d_ff: int = 2048
    """Inner width of the feed-forward."""
    n_encoder_layers: int = 6
    """Layers that read the source."""
    n_decoder_layers: int = 6
    """Layers that write the target."""
    max_seq_len: int = 1024
    """Longest input of learned positions; sinusoidal ones have no limit."""
    dropout: float = 0.1
    """On embedding + position and on each sublayer's output, before it is added (section 5.4)."""
    attention_dropout: float = 0.0
    """On the attention weights; not in the paper."""
    activation_dropout: float = 0.0
    """Inside the feed-forward, after the activation; not in the paper."""
    activation: str = "relu"
    """Of the feed-forward; the paper has relu."""
    gated: bool = False
    """The feed-forward multiplies its activation with a second projection (GLU)."""
    norm: str = "layernorm"
    """LayerNorm as in the paper, or RMSNorm, which neither centres nor shifts."""
    norm_position: str = "post"
    """"post": LayerNorm(x + Sublayer(x)) as in the paper; "pre": x + Sublayer(LayerNorm(x)), and a norm at the end."""
    norm_eps: float = 1e-5
    """Added to the variance under the square root of a norm."""
    bias: bool = True
    """Biases on the projections of attention and feed-forward."""
    positions: str = "sinusoidal"
    """Fixed waves as in the paper (section 3.5), or an embedding learned for each position."""
    sinusoid_layout: str = "interleaved"
    """"interleaved" sine and cosine as in the paper, or concatenated "halves" as in Marian."""
    share_embeddings: str = "all"
    """Which of source embedding, target embedding and output projection are one matrix: "all", "decoder" or "none"."""
    scale_embeddings: bool = True
    """Multiply embeddings by sqrt(d_model) (section 3.4)."""
    pad_id: int = 0
    """The token that fills up short rows of a batch; its embedding is zero."""
    bos_id: int = 2
    """The token every target starts with."""
    eos_id: int = 3
    """The token every source and target ends with."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_field(type(self).__name__, field, getattr(self, field.name))
        self._check_heads()
        vocab = min(self.vocab_size, self.target_vocab_size or self.vocab_size)
        for name in ("pad_id", "bos_id", "eos_id"):
            if not 0 <= getattr(self, name) < vocab:
                raise UserError(
                    f"{name} {getattr(self, name)} is outside the vocabulary of {vocab}: ids run from 0 to {vocab - 1}"
                )
        if self.share_embeddings == "all" and self.target_vocab_size not in (None, self.vocab_size):
            raise UserError(
                f"share_embeddings 'all' needs one vocabulary, but vocab_size is {self.vocab_size} and "
                f"target_vocab_size {self.target_vocab_size}: set share_embeddings to 'decoder' or 'none'"
            )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise UserError(
                f"d_model {self.d_model} must be even for sinusoidal positions: a frequency takes a sine and a cosine"
            )

    def _check_heads(self) -> None:
        if self.head_dim is None and self.d_model % self.n_heads:
            raise UserError(
                f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}: change one or set head_dim"
            )
        if self.n_kv_heads is not None and self.n_heads % self.n_kv_heads:
            raise UserError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `to_dict` wrote.

        Raises:
            UserError: a field is unknown or missing, named in the message.
        """
        check_field_names(cls, values)
        return cls(**values)


def check_field_names(cls: type, values: Mapping[str, Any], *, partial: bool = False) -> None:
    """Refuse keys of `values` that are no field of the dataclass `cls`, and, unless `partial`, missing ones."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(set(values) - set(fields)):
        raise UserError(
            f"{cls.__name__} has no field {', '.join(map(repr, unknown))}; its fields are {', '.join(fields)}"
        )
    required = {
        n
        for n, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if not partial and (missing := sorted(required - set(values))):
        raise UserError(f"{cls.__name__} needs the field {', '.join(map(repr, missing))}")


def _check_field(owner: str, field: dataclasses.Field[Any], value: Any) -> None:
    """Type and range of one field; the types are plain ones, so their names in the annotation are enough."""
    where = f"{owner}.{field.name}"
    allowed: Any = field.type
    expected = allowed.__name__ if isinstance(allowed, type) else allowed
    if isinstance(value, bool) and allowed is not bool:
        raise UserError(f"{where} is {value!r}, expected {expected}")
    if not isinstance(value, (allowed | int) if allowed is float else allowed):
        raise UserError(f"{where} is {value!r}, expected {expected}")
    if field.name in CHOICES and value not in CHOICES[field.name]:
        raise UserError(f"{where} is {value!r}, expected one of {', '.join(CHOICES[field.name])}")
    if field.name in PROBABILITIES and not 0 <= value < 1:
        raise UserError(f"{where} is {value!r}, expected a probability from 0 up to, not including, 1")
    if allowed is float and field.name not in PROBABILITIES and not value > 0:
        raise UserError(f"{where} is {value!r}, expected a number above 0")
    if allowed is not float and type(value) is int and value < 1 and not field.name.endswith("_id"):
        raise UserError(f"{where} is {value}, expected at least 1")
