"""The two families."""

from dataclasses import dataclass

from transformer_zoo.config.model import ModelConfig
from transformer_zoo.errors import UserError


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
    """Places are counted from the start of a row; False: from its first real token, wherever padding is, and a pad that
    was written in the middle has none, as in M2M-100."""
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
    forced_last_id: int | None = None
    """The last token of a translation that reaches the length limit, at no cost: eos in Marian and BART; None: it is
    cut."""
    never_ids: tuple[int, ...] | None = None
    """Tokens that no translation contains; None: pad and bos, which no target it was trained on contains."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_ids(
            min(self.vocab_size, self.target_size), "pad_id", "bos_id", "eos_id", "source_end_id", "forced_last_id"
        )
        self._check_buckets(4)
        if outside := [token for token in self.never if token >= self.target_size]:
            raise UserError(f"never_ids has {outside[0]}, outside the target vocabulary of {self.target_size}")
        if self.eos_id in self.never:
            raise UserError(f"never_ids has eos_id, {self.eos_id}, without which no translation ends")
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
    def never(self) -> tuple[int, ...]:
        """Tokens that no translation contains."""
        return tuple({self.pad_id, self.bos_id} - {self.eos_id}) if self.never_ids is None else self.never_ids

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
