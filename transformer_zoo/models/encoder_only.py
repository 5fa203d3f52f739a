"""The encoder alone, BERT (Devlin et al. 2019), built from the same blocks: every token sees every other.

Shapes: B batch, T tokens, D width (`d_model`), V vocabulary, L labels.
"""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks import (
    HeadProjection,
    LabelHead,
    Linear,
    TokenEmbedding,
    check_answers,
    init_normal,
    key_mask,
    pool,
    token_ids,
)
from transformer_zoo.blocks.answers import flops_of_parts
from transformer_zoo.config import EncoderConfig, TextsSpec, TokensSpec, WordsSpec
from transformer_zoo.models.building import build_encoder


class EncoderOnly(nn.Module):
    """Tokens in; out come a vector for each token that knows all others (`hidden`), and what the head computes from
    these.

    `config.head` says what that is: logits for the token at each position, labels of the text, or labels of each token.
    The first is learned on texts in which some tokens are replaced by `config.mask_id` (section 3.1). `pool` makes
    one vector of a text.
    >>> model = EncoderOnly(tz.EncoderConfig.of(vocab_size=100, d_model=64, n_heads=4, n_layers=2))
    >>> model(torch.tensor([[5, 1, 7]])).shape
    torch.Size([1, 3, 100])
    """

    kind = "an encoder"
    stacks = ("encoder",)
    vocabulary = ("embedding", "head")
    reads: tuple[str, ...] = ("encoder", "embedding", "segments", "word_head", "head", "text_head", "token_head")
    writes: tuple[str, ...] = ("encoder", "word_head")
    labels: ClassVar[dict[str, str]] = {
        "embedding": "token embedding", "segments": "segment embedding", "head": "head", "logit_bias": "head's bias",
    }  # fmt: skip

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_embedding or config.d_model
        self.embedding = TokenEmbedding(config.vocab_size, width, pad_id=config.pad_id, scale=config.scale_embeddings)
        self.segments = TokenEmbedding(config.n_segments, width, scale=False) if config.n_segments else None
        self.encoder = build_encoder(config, config.encoder, d_embedding=config.d_embedding)
        around, head = config.context_of("encoder"), config.head
        self.word_head: HeadProjection | None = None
        self.logit_bias: nn.Parameter | None = None
        if isinstance(head, WordsSpec):
            norm = config.encoder.norm.build(replace(around, d_model=width))
            how: dict[str, Any] = {"activation": head.activation, "bias": head.bias, "norm": norm}
            self.word_head = HeadProjection(config.d_model, width, **how)
            self.logit_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.head = None if config.tie_embeddings else Linear(width, config.vocab_size, bias=False)
        self.text_head: LabelHead | None = head.build(around) if isinstance(head, TextsSpec) else None
        self.token_head: LabelHead | None = head.build(around) if isinstance(head, TokensSpec) else None
        # Embeddings narrower than the layers are not part of the residual stream; neither is the head after its first
        # matrix.
        if config.d_embedding is not None:
            self.reads, self.writes = ("encoder", "word_head", "text_head", "token_head"), ("encoder",)
        check_answers(self)
        init_normal(self)

    def init_weights(self) -> None:
        """Make every token as likely as any other at first."""
        if self.logit_bias is not None:
            nn.init.zeros_(self.logit_bias)

    def forward(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Logits. The head for words gives (B, T, V), for the token that stands, or is hidden, at each position; a head
        for labels gives (B, L) for the text, or (B, T, L) for its tokens.

        Args:
            ids: (B, T) token ids of any integer type.
            mask: (B, T) booleans, True for a real token; None: all are real.
            positions: (B, T); None: the number of real tokens before each in its row.
            segments: (B, T), the part of the input that each token belongs to, from 0; None: all belong to the first.

        Raises:
            ValueError: ids are not (B, T) whole numbers, a mask is not boolean or does not fit the tokens, learned
                positions are past `max_seq_len`, or the model has no head.
        """
        hidden = self.hidden(ids, mask, positions, segments)
        labels = self.text_head or self.token_head
        return self.logits(hidden) if labels is None else labels(hidden, mask)

    def hidden(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """The output of the last layer, (B, T, D)."""
        ids = token_ids(ids)
        allowed = None if mask is None else key_mask(mask, ids.shape, name="mask")  # (B, 1, 1, T)
        if positions is None and mask is not None:
            positions = (mask.long().cumsum(1) - 1).clamp_min(0)  # (B, T)
        x = self.embedding(ids)  # (B, T, D or d_embedding)
        if self.segments is not None:
            x = x + self.segments(torch.zeros_like(ids) if segments is None else segments)
        elif segments is not None:
            raise ValueError("segments are given, and this model has no n_segments")
        out: Tensor = self.encoder(x, mask=allowed, positions=positions)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of words, (..., D) -> (..., V)."""
        x = self.guesses(hidden)
        logits: Tensor = self.embedding.logits(x) if self.head is None else self.head(x)
        return logits if self.logit_bias is None else logits + self.logit_bias

    def guesses(self, hidden: Tensor) -> Tensor:
        """The input of the output projection, from `hidden`: (..., D) -> (..., D or d_embedding)."""
        if self.word_head is None:
            raise ValueError("this encoder has no head for words: `hidden` and `pool` give its vectors")
        out: Tensor = self.word_head(hidden)
        return out

    def pool(self, hidden: Tensor, mask: Tensor | None = None, how: Literal["mean", "first"] | None = None) -> Tensor:
        """One vector a text, (B, D), from `hidden` (B, T, D): the mean over its real tokens, or its first token's
        vector. A text without tokens gives zero.

        None: as `config.pooling` says. The vector has length 1 if `config.normalize`.

        Raises:
            ValueError: there is no such way, or the mask is not boolean or does not fit the tokens.
        """
        vectors = pool(hidden, mask, self.config.pooling if how is None else how)
        return F.normalize(vectors, dim=-1) if self.config.normalize else vectors

    @property
    def head_weight(self) -> Tensor:
        """The output projection, (V, D): the embedding's matrix if it is tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def flops(self, n_keys: int) -> int:
        """Operations for one token among `n_keys` tokens, its logits included."""
        tied = 2 * self.head_weight.numel() if self.head is None and self.word_head is not None else 0
        return flops_of_parts(self, n_keys) + tied
