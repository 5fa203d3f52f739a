"""The encoder alone, BERT (Devlin et al. 2019), from the same blocks: every token sees every other.

Shapes: B batch, T tokens, D width (`d_model`), V vocabulary.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks import Linear, TokenEmbedding, check_answers, init_normal, key_mask, token_ids
from transformer_zoo.blocks.answers import flops_of_parts
from transformer_zoo.config import EncoderConfig
from transformer_zoo.models.building import build_encoder


class EncoderOnly(nn.Module):
    """Tokens in; for each of them a vector that knows of all others (`hidden`), and logits for what stands there.

    Trained on texts of which some tokens are `config.mask_id` to say what these were (section 3.1). `pool` makes one
    vector of a text.
    >>> model = EncoderOnly(tz.EncoderConfig.of(vocab_size=100, d_model=64, n_heads=4, n_layers=2))
    >>> model(torch.tensor([[5, 1, 7]])).shape
    torch.Size([1, 3, 100])
    """

    kind = "an encoder"
    stacks = ("encoder",)
    reads, writes = ("encoder", "embedding", "head_proj", "head"), ("encoder", "head_proj", "head_norm")
    labels: ClassVar[dict[str, str]] = {
        "embedding": "token embedding", "head_proj": "head's projection", "head_norm": "head's norm", "head": "head",
        "logit_bias": "head's bias",
    }  # fmt: skip

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        self.embedding = TokenEmbedding(config.vocab_size, width, pad_id=config.pad_id, scale=config.scale_embeddings)
        self.encoder = build_encoder(config, config.encoder)
        self.head_proj = Linear(width, width)
        self.head_norm: nn.Module = config.encoder.norm.build(config.context_of("encoder"))
        self.head = None if config.tie_embeddings else Linear(width, config.vocab_size, bias=False)
        self.logit_bias = nn.Parameter(torch.zeros(config.vocab_size))
        check_answers(self)
        init_normal(self)

    def init_weights(self) -> None:
        """Every token is as likely as another at first."""
        nn.init.zeros_(self.logit_bias)

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) for the token that stands, or is hidden, at each place.

        Args:
            ids: (B, T) token ids, integers of any type.
            mask: (B, T) booleans, True for a real token; None: all are real.
            positions: (B, T); None: the number of real tokens of the row before each.

        Raises:
            ValueError: ids that are no (B, T) whole numbers, a mask that is not boolean or not of the tokens, or
                learned positions past `max_seq_len`.
        """
        return self.logits(self.hidden(ids, mask, positions))

    def hidden(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """The output of the last layer, (B, T, D)."""
        ids = token_ids(ids)
        allowed = None if mask is None else key_mask(mask, ids.shape, name="mask")  # (B, 1, 1, T)
        if positions is None and mask is not None:
            positions = (mask.long().cumsum(1) - 1).clamp_min(0)  # (B, T)
        out: Tensor = self.encoder(self.embedding(ids), mask=allowed, positions=positions)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        x = self.guesses(hidden)
        logits: Tensor = self.embedding.logits(x) if self.head is None else self.head(x)
        return logits + self.logit_bias

    def guesses(self, hidden: Tensor) -> Tensor:
        """What the output projection takes of `hidden`: (..., D) -> (..., D)."""
        out: Tensor = self.head_norm(F.gelu(self.head_proj(hidden)))
        return out

    def pool(self, hidden: Tensor, mask: Tensor | None = None, how: Literal["mean", "first"] = "mean") -> Tensor:
        """One vector a text, (B, D), of `hidden` (B, T, D): the mean over its real tokens, or its first one's.

        Raises:
            ValueError: another way, or a mask that is not boolean or not of the tokens.
        """
        if how not in ("mean", "first"):
            raise ValueError(f"how is {how!r}, expected one of mean, first")
        key_mask(mask, hidden.shape[:2], name="mask")
        if mask is None:
            return hidden.mean(1) if how == "mean" else hidden[:, 0]
        if how == "first":
            return hidden[torch.arange(len(hidden), device=hidden.device), mask.int().argmax(1)]
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)

    @property
    def head_weight(self) -> Tensor:
        """The output projection, (V, D): the embedding's matrix where it is tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def flops(self, n_keys: int) -> int:
        """Operations for one token among `n_keys`, its logits included."""
        tied = 2 * self.head_weight.numel() if self.head is None else 0
        return flops_of_parts(self, n_keys) + tied
