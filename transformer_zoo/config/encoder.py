"""Models that only read."""

from dataclasses import dataclass
from typing import Literal

from transformer_zoo.config.attention import AttentionSpec
from transformer_zoo.config.feed_forward import FeedForwardSpec
from transformer_zoo.config.heads import HeadSpec, WordsSpec
from transformer_zoo.config.layer import LayerSpec, StackSpec
from transformer_zoo.config.model import ModelConfig
from transformer_zoo.config.positions import LearnedSpec
from transformer_zoo.errors import UserError

_BERT = StackSpec(
    n_layers=12,
    layer=LayerSpec(
        attention=AttentionSpec(n_heads=12, dropout=0.1), ffn=FeedForwardSpec(d_ff=3072, activation="gelu")
    ),
    positions=LearnedSpec(),
    embedding_norm=True,
)


_WORDS = WordsSpec()


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(ModelConfig):
    """An encoder alone. The defaults are BERT's smallest model (Devlin et al. 2019).
    >>> config = EncoderConfig.of(vocab_size=100, n_layers=2)
    """

    d_model: int = 768
    """Width of the residual stream."""
    max_seq_len: int = 512
    """Number of tokens of the longest text. Learned positions end there."""
    scale_embeddings: bool | float = False
    """Whether embeddings are multiplied by sqrt(d_model), or the number that they are multiplied by."""
    encoder: StackSpec = _BERT
    """The layers."""
    d_embedding: int | None = None
    """Width of the embeddings and of a head for words, with a projection to d_model after the embeddings' norm, as in
    ELECTRA; None: d_model, without a projection."""
    n_segments: int | None = None
    """Number of parts of an input that have a vector each, as the two texts of BERT; None: the parts have no
    vectors."""
    head: HeadSpec | None = _WORDS
    """What it says about a text: the words at each position, labels of texts or of tokens; None: only hidden states."""
    tie_embeddings: bool = True
    """Whether the output projection for words is the token embedding's matrix."""
    pad_id: int = 0
    """The token that pads short rows of a batch."""
    mask_id: int | None = None
    """The token that stands for a hidden one, if the model has it."""
    pooling: Literal["mean", "first"] = "mean"
    """How a text becomes a vector: the mean over its tokens, or the vector of its first token."""
    normalize: bool = False
    """Whether the vector of a text has length 1."""
    cut_at: int | None = None
    """Number of tokens that the vector of a text is made from; the rest is left out. None: max_seq_len."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_ids(self.vocab_size, "pad_id", "mask_id")
        if not (self.tie_embeddings or isinstance(self.head, WordsSpec)):
            raise UserError("tie_embeddings is False, and has no effect without a head for words: leave it out")
        if self.d_embedding is not None and not self.encoder.embedding_norm:
            raise UserError("d_embedding is for encoders with an embedding_norm, after which it is projected")
