"""The decoder-only Transformer, GPT, from the same blocks: a decoder without cross-attention.

Shapes: B batch, T tokens, D width (`d_model`), V vocabulary.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks import (
    Linear,
    NgramEmbedding,
    TokenEmbedding,
    check_answers,
    init_gpt2,
    init_zero_out,
    key_mask,
    token_ids,
)
from transformer_zoo.blocks.answers import flops_of_parts
from transformer_zoo.config import DecoderConfig
from transformer_zoo.models.building import build_decoder
from transformer_zoo.models.cache import DecoderCache
from transformer_zoo.models.decoding import DecodingFacts


class DecoderOnly(nn.Module):
    """Tokens in, logits for each next token out. Causality is built in.
    >>> DecoderOnly(tz.get_config("gpt-nano"))(torch.tensor([[5, 7, 7]])).shape
    torch.Size([1, 3, 65])
    """

    kind = "a decoder-only model"
    stacks = ("decoder",)
    vocabulary = ("embedding", "head")
    labels: ClassVar[dict[str, str]] = {
        "embedding": "token embedding", "ngram_embedding": "n-gram embedding", "embedding_in": "embedding to d_model",
        "embedding_out": "d_model to embedding", "head": "head", "logit_bias": "head's bias",
    }  # fmt: skip

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        rows, width = config.padded_vocab_size, config.d_embedding or config.d_model
        self.embedding = TokenEmbedding(rows, width, pad_id=config.pad_id, scale=config.scale_embeddings)
        self.embedding_in: Linear | None = None
        self.embedding_out: Linear | None = None
        if config.d_embedding is not None:
            self.embedding_in = Linear(width, config.d_model, bias=False)
            self.embedding_out = Linear(config.d_model, width, bias=False)
        self.ngram_embedding = None if config.ngrams is None else config.ngrams.build(config.context_of("decoder"))
        self.decoder = build_decoder(config, config.decoder, cross_attention=False)
        self.head = None if config.tie_embeddings else Linear(width, rows, bias=False)
        self.logit_bias = nn.Parameter(torch.zeros(rows)) if config.logit_bias else None
        # An embedding narrower than the model is not part of the residual stream, and neither is the head.
        outer = ("embedding", "head") if config.d_embedding is None else ("embedding_out",)
        self.reads, self.writes = (*outer, "ngram_embedding", "decoder"), ("embedding_in", "decoder")
        check_answers(self)
        if config.init == "gpt2":
            init_gpt2(self, config.decoder.n_layers)
        else:
            init_zero_out(self)
            if self.head is not None:
                nn.init.zeros_(self.head.weight)

    def init_weights(self) -> None:
        """Every token is as likely as another at first."""
        if self.logit_bias is not None:
            nn.init.zeros_(self.logit_bias)

    def flops(self, n_keys: int) -> int:
        """Operations for one token that attends to `n_keys` keys, its logits included."""
        tied = 2 * self.head_weight.numel() if self.head is None else 0
        return flops_of_parts(self, n_keys) + tied

    def forward(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: DecoderCache | None = None,
        *,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, T, V) for the token that follows each of `ids`.

        Args:
            ids: (B, T) token ids of any integer type; with a cache, only the ids that are not in it yet.
            mask: (B, T) booleans, True for a real token; None: all are real. With a cache it covers the cached tokens
                too, with a static cache its whole capacity.
            positions: (B, T); None: the number of real tokens before each in its row, or in its document.
            cache: from `new_cache`; the tokens are appended to it.
            documents: (B, T) integers: a token sees only those of its own document. Not with a cache.

        Raises:
            ValueError: ids are not (B, T) whole numbers, a mask is not boolean or does not fit the tokens, learned
                positions are past `max_seq_len`, or documents come with a cache.
        """
        return self.logits(self.hidden(ids, mask, positions, cache, documents=documents))

    def hidden(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: DecoderCache | None = None,
        *,
        documents: Tensor | None = None,
        attention_mask: Tensor | None = None,
        before: Tensor | None = None,
    ) -> Tensor:
        """The input of the head, (B, T, D or `d_embedding`), for a loss that never holds all logits.

        attention_mask, before: as for `step`.
        """
        ids = token_ids(ids)
        n = ids.size(1)
        n_keys = n if cache is None else cache.layers[0].n_visible(n)
        allowed = None if mask is None else key_mask(mask, (ids.size(0), n_keys), name="mask")  # (B, 1, 1, Tk)
        if documents is not None and cache is not None:
            raise ValueError("documents are for whole sequences: they cannot be given with a cache")
        if positions is None and mask is not None:
            newest = slice(-n, None) if cache is None else cache.layers[0].slots(n)
            positions = (mask.long().cumsum(1) - 1).clamp_min(0)[:, newest]  # (B, T)
        if positions is None and documents is not None:
            positions = restarting_positions(documents)
        x: Tensor = self.embedding(ids)
        if self.embedding_in is not None:
            x = self.embedding_in(x)  # (B, T, D)
        if self.ngram_embedding is not None:
            x = x + self._embed_ngrams(self.ngram_embedding, ids, mask, cache, documents, before)
        out: Tensor = self.decoder(
            x,
            mask=allowed if attention_mask is None else attention_mask,
            positions=positions,
            is_causal=attention_mask is None,
            documents=documents,
            cache=cache,
        )
        if self.embedding_out is not None:
            out = self.embedding_out(out)  # (B, T, d_embedding)
        scale = self.config.logit_factor
        return out if scale == 1 else out * scale

    def _embed_ngrams(
        self,
        embedding: NgramEmbedding,
        ids: Tensor,
        mask: Tensor | None,
        cache: DecoderCache | None,
        documents: Tensor | None,
        before: Tensor | None,
    ) -> Tensor:
        """Vectors of the n-grams that end at each token: (B, T) -> (B, T, D)."""
        if before is not None:  # each token continues a text of its own
            size = embedding.n - 1
            previous = F.pad(before, (size, 0), value=-1)[:, :, -size:].flatten(0, 1)  # (B T, n - 1)
            each: Tensor = embedding(ids.reshape(-1, 1), previous)
            return each.view(*ids.shape, -1)
        if mask is not None:
            n = ids.size(1)
            static = cache is not None and cache.static
            real = mask[:, cache.layers[0].slots(n)] if cache is not None and static else mask[:, -n:]
            ids = ids.masked_fill(~real, -1)  # padding does not count as a token
        vectors: Tensor = embedding(ids, None if cache is None else cache.recent, documents)
        if cache is not None:
            cache.remember(ids)
        return vectors

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V). Rows that pad the vocabulary give no logits."""
        logits = self.embedding.logits(hidden) if self.head is None else self.head(hidden)
        if self.logit_bias is not None:
            logits = logits + self.logit_bias
        if logits.size(-1) > self.config.vocab_size:
            logits = logits[..., : self.config.vocab_size]
        cap = self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    @property
    def head_weight(self) -> Tensor:
        """The output projection, (padded V, D or `d_embedding`): the embedding's matrix if it is tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    @property
    def facts(self) -> DecodingFacts:
        """What writing code must know about the texts of this model."""
        config = self.config
        ends = [token for token in (config.eos_id, *(config.stop_ids or ())) if token is not None]
        never = config.never_ids or ()
        return DecodingFacts(
            config.vocab_size, tuple(ends), never, config.max_seq_len, has_source=False, rules=config.rules
        )

    def opening(self, given: Sequence[int]) -> list[int]:
        """The prompt, which an answer follows."""
        return list(given)

    def begin(self, given: Sequence[Sequence[int]], capacity: int, *, static: bool = False) -> DecoderCache:
        """A cache for these prompts and their answers, up to `capacity` tokens each."""
        return self.new_cache(len(given), capacity, static=static)

    def step(
        self,
        ids: Tensor,
        cache: DecoderCache,
        *,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        before: Tensor | None = None,
    ) -> Tensor:
        """The next tokens of each text, (B, T) -> (B, T, D or `d_embedding`); see `DecodingModel.step`."""
        return self.hidden(ids, mask, positions, cache, attention_mask=attention_mask, before=before)

    def new_cache(
        self, batch: int, capacity: int, *, dtype: torch.dtype | None = None, static: bool = False
    ) -> DecoderCache:
        """A cache for up to `capacity` tokens in each of `batch` rows. dtype: None: that of the weights."""
        weight = self.embedding.weight
        cache = self.decoder.new_cache(
            batch, capacity, dtype=dtype or weight.dtype, device=weight.device, static=static
        )
        if self.ngram_embedding is not None:
            shape = batch, self.ngram_embedding.n - 1
            cache.recent = torch.full(shape, -1, device=self.head_weight.device)
        return cache


def restarting_positions(documents: Tensor) -> Tensor:
    """Position of each token in its own document: (B, T) numbers of documents, side by side -> (B, T)."""
    places = torch.arange(documents.size(1), device=documents.device).expand_as(documents)  # (B, T)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return places - torch.where(starts, places, 0).cummax(1).values
