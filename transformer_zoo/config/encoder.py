"""Models that read only."""

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
    """An encoder alone; the defaults are BERT's smallest (Devlin et al. 2019).
    >>> config = EncoderConfig.of(vocab_size=100, n_layers=2)
    """

    d_model: int = 768
    """Width of the residual stream."""
    max_seq_len: int = 512
    """Tokens of the longest text. Learned positions end there."""
    scale_embeddings: bool | float = False
    """Multiply embeddings by sqrt(d_model), or by this number."""
    encoder: StackSpec = _BERT
    """The layers."""
    d_embedding: int | None = None
    """Width of the embeddings and of a head for words, with a projection to d_model after the embeddings' norm, as in
    ELECTRA; None: d_model, without."""
    n_segments: int | None = None
    """Parts of an input that are told apart by a vector for each, as the two texts of BERT; None: none are."""
    head: HeadSpec | None = _WORDS
    """What it says of a text: which words stand there, labels of texts or of tokens; None: hidden states only."""
    tie_embeddings: bool = True
    """The output projection for words is the token embedding's matrix."""
    pad_id: int = 0
    """The token that fills up short rows of a batch."""
    mask_id: int | None = None
    """The token that stands for one to be guessed, where there is one."""
    pooling: Literal["mean", "first"] = "mean"
    """What is the vector of a text: the mean over its tokens, or the vector of its first one."""
    normalize: bool = False
    """The vector of a text has length 1."""
    cut_at: int | None = None
    """Tokens of a text that its vector is made of, the rest is left out; None: max_seq_len."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_ids(self.vocab_size, "pad_id", "mask_id")
        if not (self.tie_embeddings or isinstance(self.head, WordsSpec)):
            raise UserError("tie_embeddings is False, and has no effect without a head for words: leave it out")
        if self.d_embedding is not None and not self.encoder.embedding_norm:
            raise UserError("d_embedding is for encoders with an embedding_norm, after which it is projected")
