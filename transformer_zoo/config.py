"""What a model is, as data: importable without torch, written to a run, read back, refused when a field is wrong."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args

from transformer_zoo.errors import UserError

CHOICES: dict[str, tuple[str, ...]] = {
    "activation": ("relu", "relu_squared", "gelu", "gelu_tanh", "silu"),
    "norm": ("layernorm", "rmsnorm"),
    "norm_position": ("post", "pre", "both", "parallel", "pre_carried"),
    "positions": ("sinusoidal", "learned", "rotary", "alibi", "relative", "none"),
    "sinusoid_layout": ("interleaved", "halves", "halves_inclusive"),
    "rotary_layout": ("halves", "interleaved"),
    "rotary_scaling": ("none", "linear", "llama3"),
    "share_embeddings": ("all", "inputs", "decoder", "none"),
    "init": ("gpt2", "zero_out"),
}
PROBABILITIES = ("dropout", "attention_dropout", "activation_dropout")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What both families have: the width, and how their layers are built."""

    vocab_size: int
    """Vocabulary; in an encoder-decoder the source's, and the target's too unless `target_vocab_size` is given."""
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
    max_seq_len: int = 1024
    """Tokens of the longest text. Learned positions end there; with others a model can read on, but text is written,
    scored and trained on in windows of it, and longer sources are split."""
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
    norm_unit_offset: bool = False
    """RMSNorm multiplies by 1 + weight, and the weight starts at zero, as in Gemma."""
    norm_affine: bool = True
    """LayerNorm has a weight, and a bias if `norm_bias`; False: neither."""
    norm_position: str = "post"
    """"post": LayerNorm(x + Sublayer(x)) as in the paper; "pre": x + Sublayer(LayerNorm(x)), and a norm at the end.
    "both": x + Norm'(Sublayer(Norm(x))), as in Gemma 2; "parallel": x + Attention(Norm(x)) + FFN(Norm'(x)), as in
    GPT-NeoX; "pre_carried": Norm(x) + Sublayer(Norm(x)), as BLOOM may. These three have a norm at the end too."""
    final_norm: bool | None = None
    """A norm after the last layer; None: unless `norm_position` is "post"."""
    embedding_norm: bool = False
    """A norm over embedding + position, before the first layer."""
    norm_eps: float = 1e-5
    """Added to the variance under the square root of a norm."""
    norm_bias: bool = True
    """LayerNorm shifts as well as scales; RMSNorm never does."""
    bias: bool = True
    """Biases on the projections of attention and feed-forward."""
    qkv_bias: bool | None = None
    """Biases on the projections of queries, keys and values; None: as `bias`."""
    ffn_bias: bool | None = None
    """Biases on the projections of the feed-forward; None: as `bias`."""
    qk_norm: bool = False
    """An RMSNorm over each head's queries and keys, before rotation."""
    attention_softcap: float | None = None
    """Bounds the attention scores: cap * tanh(score / cap)."""
    attention_scale: float | None = None
    """Multiplies the attention scores; None: head_dim^-0.5. T5 has 1."""
    attention_scale_by_layer: bool = False
    """Divides the attention scores of layer i by i, counted from 1, as GPT-2 may."""
    sliding_window: int | None = None
    """Self-attention sees so many tokens, itself included; None: all. For decoders."""
    windowed_layers: tuple[int, ...] | None = None
    """Which layers have the sliding window, counted from 0; None: all."""
    positions: str = "sinusoidal"
    """Fixed waves as in the paper (section 3.5), an embedding learned for each position, rotated queries and keys,
    scores that fall with the distance ("alibi"), scores learned by distance ("relative", T5's), or none."""
    position_offset: int = 0
    """Learned and sinusoidal positions: the first token has this place."""
    sinusoid_layout: str = "interleaved"
    """"interleaved" sine and cosine as in the paper, or concatenated "halves" as in Marian; "halves_inclusive" has the
    last wave exactly 10000 times slower than the first, as in fairseq."""
    relative_buckets: int = 32
    """`relative`: learned scores of each head; in an encoder half of them for what comes after."""
    relative_max_distance: int = 128
    """`relative`: from this distance on all have one score."""
    rotary_base: float = 10000.0
    """Base of the rotary frequencies; larger turns slower."""
    rotary_dim: int | None = None
    """How many of a head's dimensions rotate; None: all."""
    rotary_layout: str = "halves"
    """Which two dimensions turn together: i and i + dim / 2 ("halves"), or 2i and 2i + 1 ("interleaved")."""
    rotary_scaling: str = "none"
    """For longer inputs than were trained on: "linear" slows all frequencies down by `rotary_factor`, "llama3" the low
    ones."""
    rotary_factor: float = 8.0
    """`linear`, `llama3`: by how much."""
    rotary_low_freq_factor: float = 1.0
    """`llama3`: waves longer than `rotary_original_max_seq_len` / this are slowed down in full."""
    rotary_high_freq_factor: float = 4.0
    """`llama3`: waves shorter than `rotary_original_max_seq_len` / this are left alone."""
    rotary_original_max_seq_len: int = 8192
    """`llama3`: the input length before scaling."""
    scale_embeddings: bool = True
    """Multiply embeddings by sqrt(d_model) (section 3.4)."""
    logit_scale: float | None = None
    """Multiplies the logits; None: 1. T5 with a tied head has d_model^-0.5."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):  # as JSON and YAML have a tuple
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
            _check_field(type(self).__name__, field, getattr(self, field.name))
        self._check_heads(self.n_heads)
        if self.windowed_layers is not None and self.sliding_window is None:
            raise UserError("windowed_layers needs sliding_window: how many tokens these layers see")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise UserError(
                f"d_model {self.d_model} must be even for sinusoidal positions: a frequency takes a sine and a cosine"
            )

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def ends_in_norm(self) -> bool:
        """Whether there is a norm after the last layer."""
        return self.norm_position != "post" if self.final_norm is None else self.final_norm

    def _check_heads(self, n_heads: int) -> None:
        if self.head_dim is None and self.d_model % n_heads:
            raise UserError(
                f"d_model {self.d_model} is not a multiple of n_heads {n_heads}: change one or set head_dim"
            )
        if self.n_kv_heads is not None and n_heads % self.n_kv_heads:
            raise UserError(f"n_heads {n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")
        head_dim = self.head_dim or self.d_model // n_heads
        rotary_dim = self.rotary_dim or head_dim
        if self.positions == "rotary" and (rotary_dim % 2 or rotary_dim > head_dim):
            name = "head_dim" if self.rotary_dim is None else "rotary_dim"
            raise UserError(f"{name} {rotary_dim} must be even, and at most head_dim {head_dim}, for rotary positions")

    def _check_buckets(self, parts: int) -> None:
        """Of the `relative_buckets`, so many parts' first has one distance each."""
        exact = self.relative_buckets // parts
        if self.positions == "relative" and not 1 <= exact < self.relative_max_distance:
            raise UserError(
                f"relative_buckets {self.relative_buckets} must be at least {parts}, and relative_max_distance "
                f"{self.relative_max_distance} more than {exact}, the distances with a bucket of their own"
            )

    def _check_ids(self, vocab_size: int, *names: str) -> None:
        for name in names:
            token = getattr(self, name)
            if token is not None and not 0 <= token < vocab_size:
                raise UserError(
                    f"{name} {token} is outside the vocabulary of {vocab_size}: ids run from 0 to {vocab_size - 1}"
                )

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


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(ModelConfig):
    """The encoder-decoder of "Attention Is All You Need" (Vaswani et al. 2017); the defaults are its base model.

    Raises:
        UserError: a field has a wrong type, an impossible value, or does not fit another.
    """

    target_vocab_size: int | None = None
    """Target vocabulary, where the two sides have one each."""
    n_encoder_layers: int = 6
    """Layers that read the source."""
    n_decoder_layers: int = 6
    """Layers that write the target."""
    n_decoder_heads: int | None = None
    """Attention heads of the decoder's layers; None: `n_heads`."""
    decoder_d_ff: int | None = None
    """Inner width of the decoder's feed-forward; None: `d_ff`."""
    share_embeddings: str = "all"
    """Which of source embedding, target embedding and output projection are one matrix: "all", the "inputs" (the first
    two), "decoder" (the last two), or "none"."""
    logit_bias: bool = False
    """A constant is added to each logit, which comes with the weights and is not trained, as in Marian and BART."""
    count_padding: bool = True
    """Places are counted from the start of a row; False: from its first real token, wherever padding is."""
    pad_id: int = 0
    """The token that fills up short rows of a batch."""
    zero_pad: bool = True
    """The embedding of pad starts as zero and is not learned from inputs. Where it is the output projection too, that
    learns it, unless targets start with pad."""
    bos_id: int = 2
    """The token every target starts with."""
    eos_id: int = 3
    """The token every target ends with, and every source unless `source_end_id` is given."""
    source_end_id: int | None = None
    """The token every source ends with; None: `eos_id`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_ids(min(self.vocab_size, self.target_size), "pad_id", "bos_id", "eos_id", "source_end_id")
        self._check_buckets(4)
        if self.n_decoder_heads is not None:
            self._check_heads(self.n_decoder_heads)
        if self.sliding_window is not None:
            raise UserError("sliding_window is for decoder-only models")
        if self.norm_position == "parallel":
            raise UserError("norm_position 'parallel' is for decoder-only models")
        if self.share_embeddings in ("all", "inputs") and self.target_vocab_size not in (None, self.vocab_size):
            raise UserError(
                f"share_embeddings {self.share_embeddings!r} needs one vocabulary, but vocab_size is {self.vocab_size} "
                f"and target_vocab_size {self.target_vocab_size}: set share_embeddings to 'decoder' or 'none'"
            )


    @property
    def target_size(self) -> int:
        """Target vocabulary."""
        return self.target_vocab_size or self.vocab_size

    @property
    def source_end(self) -> int:
        """The token every source ends with."""
        return self.eos_id if self.source_end_id is None else self.source_end_id


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(ModelConfig):
    """A decoder-only model; the defaults are GPT-2's smallest (Radford et al. 2019).

    Raises:
        UserError: a field has a wrong type, an impossible value, or does not fit another.
    """

    d_model: int = 768
    """Width of the residual stream."""
    n_heads: int = 12
    """Attention heads of each layer."""
    d_ff: int = 3072
    """Inner width of the feed-forward."""
    n_layers: int = 12
    """Depth."""
    attention_dropout: float = 0.1
    """On the attention weights."""
    activation: str = "gelu_tanh"
    """Of the feed-forward."""
    norm_position: str = "pre"
    """"pre": x + Sublayer(Norm(x)), and a norm at the end; "post": Norm(x + Sublayer(x)), as in GPT-1; "both": x +
    Norm'(Sublayer(Norm(x))), as in Gemma 2; "parallel": x + Attention(Norm(x)) + FFN(Norm'(x)), as in GPT-NeoX;
    "pre_carried": Norm(x) + Sublayer(Norm(x)), as BLOOM may. These three have a norm at the end too."""
    positions: str = "learned"
    """An embedding learned for each position, rotated queries and keys, fixed waves, scores that fall with the distance
    ("alibi"), scores learned by distance ("relative"), or none."""
    scale_embeddings: bool = False
    """Multiply embeddings by sqrt(d_model)."""
    tie_embeddings: bool = True
    """The output projection is the token embedding's matrix."""
    d_embedding: int | None = None
    """Width of the token embedding and of the head, with a projection to and from d_model; None: d_model, without."""
    ngrams: int = 1
    """Above 1, a token's embedding also has vectors for the last 2, ... tokens together, up to so many."""
    ngram_rows: int = 16384
    """Vectors for the n-grams of each length, which share them by a hash."""
    logit_softcap: float | None = None
    """Bounds the logits: cap * tanh(logit / cap)."""
    vocab_multiple: int = 1
    """Embedding and output projection get rows up to the next multiple of this, for speed; no logit comes of them."""
    init: str = "gpt2"
    """"gpt2": N(0, 0.02), the last projection of each sublayer 1 / sqrt(2 n_layers) of it; "zero_out":
    N(0, 1 / inputs), the last projections and an untied head zero."""
    pad_id: int | None = None
    """The token that fills up short rows, where there is one: inputs give its embedding no gradient."""
    bos_id: int | None = None
    """The token a text starts with, where there is one."""
    eos_id: int | None = None
    """The token a text ends with, where there is one."""
    stop_ids: tuple[int, ...] | None = None
    """More tokens at which an answer ends, such as the end of a turn in a chat."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_buckets(2)
        self._check_ids(self.vocab_size, "pad_id", "bos_id", "eos_id")
        if self.stop_ids and max(self.stop_ids) >= self.vocab_size:
            raise UserError(f"stop_ids has {max(self.stop_ids)}, outside the vocabulary of {self.vocab_size}")
        if self.windowed_layers and max(self.windowed_layers) >= self.n_layers:
            raise UserError(
                f"windowed_layers has {max(self.windowed_layers)}, and there are {self.n_layers} layers, counted from 0"
            )

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding and of the output projection."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple


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
    types = get_args(allowed) or (allowed,)
    is_float = float in types
    expected = allowed.__name__ if isinstance(allowed, type) else allowed
    if isinstance(value, bool) and bool not in types:
        raise UserError(f"{where} is {value!r}, expected {expected}")
    if tuple[int, ...] in types:
        if value is not None and not (isinstance(value, tuple) and all(type(i) is int and i >= 0 for i in value)):
            raise UserError(f"{where} is {value!r}, expected whole numbers from 0")
        return
    if not isinstance(value, (allowed | int) if is_float else allowed):
        raise UserError(f"{where} is {value!r}, expected {expected}")
    if value is None:
        return
    if field.name in CHOICES and value not in CHOICES[field.name]:
        raise UserError(f"{where} is {value!r}, expected one of {', '.join(CHOICES[field.name])}")
    if field.name in PROBABILITIES and not 0 <= value < 1:
        raise UserError(f"{where} is {value!r}, expected a probability from 0 up to, not including, 1")
    if is_float and field.name not in PROBABILITIES and not value > 0:
        raise UserError(f"{where} is {value!r}, expected a number above 0")
    if not is_float and type(value) is int and not field.name.endswith("_id"):
        least = 0 if field.name == "position_offset" else 1
        if value < least:
            raise UserError(f"{where} is {value}, expected at least {least}")
