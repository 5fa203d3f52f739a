"""The encoder-decoder of "Attention Is All You Need", section 3, from the blocks.

Shapes: B batch, Ts source tokens, Tt target tokens, D width (`d_model`), V target vocabulary.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from transformer_zoo.blocks import (
    Linear,
    TokenEmbedding,
    check_answers,
    check_mask,
    combine_masks,
    init_xavier,
    key_mask,
    token_ids,
)
from transformer_zoo.blocks.answers import flops_of_parts
from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.models.building import build_decoder, build_encoder
from transformer_zoo.models.cache import DecoderCache
from transformer_zoo.models.decoding import DecodingFacts, pad_rows


class EncoderDecoder(nn.Module):
    """Source and target tokens in, logits for each next target token out.

    A target starts with `config.bos_id`; the logits at position t are for the token at position t + 1. Causality is
    built in.
    >>> EncoderDecoder(tz.get_config("transformer-tiny"))(torch.tensor([[5, 3]]), torch.tensor([[2, 7, 7]])).shape
    torch.Size([1, 3, 10000])
    """

    kind = "an encoder-decoder"
    stacks = ("encoder", "decoder")
    vocabulary = ("embedding", "source_embedding", "target_embedding", "head")
    reads = (*stacks, "embedding", "source_embedding", "target_embedding", "head")
    writes = stacks
    labels: ClassVar[dict[str, str]] = {
        "embedding": "token embedding", "source_embedding": "source embedding", "target_embedding": "target embedding",
        "head": "head",
    }  # fmt: skip
    logit_bias: Tensor | None

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config, config.encoder)
        self.decoder = build_decoder(config, config.decoder, cross_attention=True)
        init_xavier(self)
        # One name for each weight: a shared matrix is registered once.
        self.embedding: TokenEmbedding | None = None
        self.source_embedding: TokenEmbedding | None = None
        self.target_embedding: TokenEmbedding | None = None
        self.head: Linear | None = None
        if config.share_embeddings in ("all", "inputs"):
            self.embedding = self._new_embedding(config.vocab_size)
        else:
            self.source_embedding = self._new_embedding(config.vocab_size)
            self.target_embedding = self._new_embedding(config.target_size)
        if config.share_embeddings in ("inputs", "none"):
            self.head = Linear(config.d_model, config.target_size, bias=False)
            nn.init.normal_(self.head.weight, std=config.d_model**-0.5)
        self.register_buffer("logit_bias", torch.zeros(config.target_size) if config.logit_bias else None)
        check_answers(self)

    def flops(self, n_keys: int) -> int:
        """Operations for one source token and one target token, each with `n_keys` keys, its logits included."""
        tied = 2 * self.head_weight.numel() if self.head is None else 0
        return flops_of_parts(self, n_keys) + tied

    def _new_embedding(self, vocab_size: int) -> TokenEmbedding:
        config = self.config
        pad_id = config.pad_id if config.zero_pad else None
        return TokenEmbedding(vocab_size, config.d_model, pad_id=pad_id, scale=config.scale_embeddings)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, Tt, V) for the tokens that follow each of `target`.

        Args:
            source: (B, Ts) token ids of any integer type, ending in eos.
            target: (B, Tt) token ids, starting with bos.
            source_mask, target_mask: (B, Ts) and (B, Tt) booleans, True for a real token; None: all are real.

        Raises:
            ValueError: ids are not (B, T) whole numbers, or masks are not boolean or do not fit their tokens.
        """
        return self.logits(self.hidden(source, target, source_mask, target_mask))

    def hidden(
        self,
        source: Tensor,
        target: Tensor,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> Tensor:
        """The input of the head, (B, Tt, D), for a loss that never holds all logits."""
        memory = self.encode(source, source_mask)
        n_sources, n_targets = source.size(0), token_ids(target, "target").size(0)  # len() would be constant
        if n_sources != n_targets:
            raise ValueError(f"{n_sources} sources and {n_targets} targets: a batch has as many of one as of the other")
        return self.decode_hidden(target, memory, source_mask, target_mask)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        logits: Tensor = self._target_embedding.logits(hidden) if self.head is None else self.head(hidden)
        return logits if self.logit_bias is None else logits + self.logit_bias.to(logits.dtype)

    @property
    def head_weight(self) -> Tensor:
        """The output projection, (V, D): the target embedding's matrix if it is shared (section 3.4)."""
        return self._target_embedding.weight if self.head is None else self.head.weight

    @property
    def _target_embedding(self) -> TokenEmbedding:
        embedding = self.embedding if self.target_embedding is None else self.target_embedding
        assert embedding is not None
        return embedding

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """(B, Ts) token ids -> the memory (B, Ts, D)."""
        embedding = self.embedding if self.source_embedding is None else self.source_embedding
        assert embedding is not None
        source = token_ids(source, "source")
        allowed = key_mask(source_mask, source.shape, name="source_mask")
        out: Tensor = self.encoder(embedding(source), mask=allowed, positions=self._positions(source_mask))
        return out

    def _positions(self, mask: Tensor | None) -> Tensor | None:
        """Positions (B, T) without counting padding; None: all tokens are counted, or all are real."""
        if mask is None or self.config.count_padding:
            return None
        return (mask.long().cumsum(1) - 1).clamp_min(0)  # (B, T)

    def decode(
        self,
        target: Tensor,
        memory: Tensor | None = None,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Logits (B, Tt, V) for the tokens that follow each of `target`.

        Args:
            target: (B, Tt) token ids; with a cache, only the ids that are not in it yet.
            memory: (B, Ts, D) from `encode`; not needed with a cache, which holds its projections.
            source_mask, target_mask: (B, Ts) and (B, Tt) booleans, True for a real token; None: all are real. With a
                cache target_mask covers the cached tokens too. A cache from `begin` knows the source's mask.
            positions: broadcastable to (B, Tt); None: counted from the start, or from the cache's length. They are
                counted by target_mask if `config.count_padding` is false.
            attention_mask: booleans broadcastable to (B, H, Tt, Tk), used instead of causality. Tk counts the cache.
            cache: from `new_cache`; the tokens are appended to it.
        """
        return self.logits(
            self.decode_hidden(
                target,
                memory,
                source_mask,
                target_mask,
                positions=positions,
                attention_mask=attention_mask,
                cache=cache,
            )
        )

    def decode_hidden(
        self,
        target: Tensor,
        memory: Tensor | None = None,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """The input of the head in `decode`, (B, Tt, D); arguments as for `decode`."""
        config, target = self.config, token_ids(target, "target")
        n_keys = target.size(1) if cache is None else cache.layers[0].n_visible(target.size(1))
        allowed = key_mask(target_mask, (target.size(0), n_keys), name="target_mask")
        check_mask(attention_mask, name="attention_mask")
        if positions is None and (places := self._positions(target_mask)) is not None:
            positions = places[:, -target.size(1) :]
        if cache is not None and self.decoder.positions.may_be_none and not config.count_padding:
            if positions is None:
                positions = cache.length + torch.arange(target.size(1), device=target.device)
            positions = positions.expand_as(target).masked_fill(target == config.pad_id, -1)  # which is none
        out: Tensor = self.decoder(
            self._target_embedding(target),
            memory,
            mask=combine_masks(allowed, attention_mask),
            memory_mask=self._memory_mask(source_mask, target.size(0), memory, cache),
            positions=positions,
            is_causal=attention_mask is None,
            cache=cache,
        )
        scale = config.logit_factor
        return out if scale == 1 else out * scale

    def _memory_mask(
        self, mask: Tensor | None, batch: int, memory: Tensor | None, cache: DecoderCache | None
    ) -> Tensor | None:
        """(B, 1, 1, Ts)"""
        if mask is None and cache is not None:
            return cache.memory_mask
        n = None if memory is None else memory.size(1)
        if cache is not None and (projected := cache.memories[0]) is not None:
            n = projected.keys.size(2)
        return key_mask(mask, None if n is None else (batch, n), name="source_mask")

    def new_cache(self, memory: Tensor, capacity: int, *, static: bool = False) -> DecoderCache:
        """A cache for decoding up to `capacity` tokens a row from this memory (B, Ts, D), which is projected here,
        once."""
        return self.decoder.new_cache(memory.size(0), capacity, memory=memory, static=static)

    @property
    def facts(self) -> DecodingFacts:
        """What writing code must know about the targets of this model."""
        config = self.config
        return DecodingFacts(
            config.target_size,
            (config.eos_id,),
            config.never,
            config.longest_input,
            has_source=True,
            rules=config.rules,
            forced_last_id=config.forced_last_id,
        )

    def opening(self, given: Sequence[int]) -> list[int]:
        """The token that every target starts with."""
        return [self.config.bos_id]

    def begin(self, given: Sequence[Sequence[int]], capacity: int, *, static: bool = False) -> DecoderCache:
        """A cache for targets of up to `capacity` tokens. It reads the sources here; each must end in
        `config.source_end`."""
        source, mask = pad_rows(given, self.config.pad_id, device=self.head_weight.device)
        cache = self.new_cache(self.encode(source, mask), capacity, static=static)
        cache.memory_mask = key_mask(mask)
        return cache

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
        """The next tokens of each target, (B, T) -> (B, T, D); see `DecodingModel.step`."""
        return self.decode_hidden(
            ids, target_mask=mask, positions=positions, attention_mask=attention_mask, cache=cache
        )
