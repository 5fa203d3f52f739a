"""Beam search for the encoder-decoder: many sources at once, each as if it were alone.

Shapes: S sources still searched, W live hypotheses of each (at most `beam`), V target vocabulary, N `n_best`.

The W hypotheses of a source share one row of the decoder: they are its W query tokens, so cross-attention
reads a source's keys once, and the self-attention cache holds the hypotheses' tokens side by side, as a tree.
Which of them are a hypothesis's own past is a boolean mask. Nothing in the cache is ever reordered or copied
for another choice of beam.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from itertools import count
from typing import Literal

import torch
from torch import Tensor

from transformer_zoo.blocks import key_mask, token_ids
from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.generation.guesser import Guesser
from transformer_zoo.generation.inference import look_every
from transformer_zoo.generation.lookup import Lookup
from transformer_zoo.generation.search import Hypothesis, Search
from transformer_zoo.models import DecoderCache, EncoderDecoder, check_draft, check_encoder_decoder, highest_logits
from transformer_zoo.threads import adapt

Penalty = Literal["gnmt", "length"]


def length_penalty_at(length: int, alpha: float, penalty: Penalty = "gnmt") -> float:
    """What the log-probability of a hypothesis is divided by; its length counts eos, not bos.

    "gnmt": ((5 + length) / 6)^alpha, Wu et al. 2016, equation 14 (the Transformer paper's, alpha 0.6);
    "length": length^alpha.

    Raises:
        UserError: an unknown penalty, or an alpha so large that there is no number for it.
    """
    if penalty not in ("gnmt", "length"):
        raise UserError(f"penalty {penalty!r} is unknown: take 'gnmt' or 'length'")
    try:
        value = float(((5 + length) / 6 if penalty == "gnmt" else length) ** alpha)
    except OverflowError:
        value = math.inf
    if not 0 < value < math.inf:
        raise UserError(f"length_penalty {alpha} is out of range: common ones are from 0 to 2")
    return value


@torch.inference_mode()
def beam_search(
    model: EncoderDecoder,
    source: Tensor,
    source_mask: Tensor | None = None,
    *,
    beam: int = 5,
    length_penalty: float = 0.6,
    penalty: Penalty = "gnmt",
    max_extra: int = 50,
    max_length: int | None = None,
    n_best: int = 1,
    prefix: Sequence[Sequence[int]] | None = None,
    never: Collection[int] | None = None,
    draft: EncoderDecoder | None = None,
    scored: bool = True,
) -> list[list[Hypothesis]]:
    """The best translations of each source by log-probability over length penalty, best first.

    Each step extends the hypotheses of the beam by every token. What ends in eos among the `beam` best of
    these leaves the beam as finished, and the `beam` best of the others live on. A source is done when no
    live hypothesis can still enter its n best: the result is the same as if the search went on to the length
    limit. With beam 1 it is greedy, and ends at the first eos. At the limit the `beam` best leave the beam whether
    they end or not; of a model with `forced_last_id` all that live do, with a last token that costs nothing. What
    one source gets does not depend on the others in the batch.

    With `penalty` "length" an imported model gives what `generate` of transformers gives with `num_beams`,
    `length_penalty` and `early_stopping="never"`.

    Args:
        model: in evaluation mode.
        source: (S, Ts) token ids, each row ending in eos.
        source_mask: (S, Ts) booleans, True for a real token; None: all are real.
        beam: hypotheses kept at each step.
        length_penalty: the exponent alpha of `length_penalty_at`; 0 for none.
        penalty: "gnmt" or "length".
        max_extra: a translation, eos included, has at most this many tokens more than its source, eos
            included (and no more than learned positions allow).
        max_length: a translation, eos included, has at most this many tokens, whatever its source; None: no
            such limit.
        n_best: translations wanted of each source, at most `beam`; fewer come back where fewer exist.
        prefix: token ids, for each source, that its translations must begin with. They are given, so that only what
            follows has a log-probability.
        never: tokens that no translation contains, whatever their probability; eos cannot be one. None: those of the
            model's configuration.
        draft: `quantize(model)`: of one source, with beam 1, it guesses the next tokens, and the model reads them at
            once and keeps those it would have chosen: the same translation, sooner where weights are slow to read.
        scored: False: log-probabilities and scores may be nan, where that is faster: with beam 1, and with a draft,
            whose head then finds the likeliest tokens of many sources.

    Returns:
        For each source its hypotheses.

    Raises:
        UserError: an argument out of range, a prefix that does not fit the length limit, or logits that are not
            finite.
    """
    check_encoder_decoder(model, "beam_search")
    check_draft(model, draft)
    source = token_ids(source, "source")
    key_mask(source_mask, source.shape, name="source_mask")
    if not 1 <= n_best <= beam:
        raise UserError(f"n_best {n_best} with beam {beam}: n_best must be from 1 to the beam width")
    if max_extra < 1 or (max_length is not None and max_length < 1):
        raise UserError(f"max_extra {max_extra} and max_length {max_length} must be at least 1: eos alone is a token")
    limits = _length_limits(model.config, source, source_mask, max_extra, max_length)
    penalties = [length_penalty_at(n, length_penalty, penalty) for n in range(1, max(limits) + 1)]
    never = _check_never(model.config, never)
    forced = _forced_tokens(limits, prefix, {*never, model.config.eos_id})
    # Log-probabilities only fall: what a hypothesis scores at its most lenient penalty, no descendant beats.
    lenient = torch.tensor([max(penalties[0], penalties[limit - 1]) for limit in limits])[:, None]  # (S, 1)

    memory = model.encode(source, source_mask)
    decoder_cache = model.new_cache(memory, capacity=beam * (max(limits) - 1) + 1)
    search = Search.start(
        model.config,
        n_best,
        lenient.to(source.device),
        torch.tensor(limits, device=source.device),
        forced.to(source.device),
        source_mask,
        never=never,
        scored=scored or beam > 1,
    )
    if draft is not None and beam == len(limits) == 1:
        read = _read_guessing(model, draft, search, decoder_cache)
    else:
        read = _read(model, draft, search, decoder_cache)
    forced_steps = set((forced >= 0).any(0).nonzero().flatten().tolist())
    results = _run(search, decoder_cache, read, beam, penalties, forced_steps, set(limits))
    for i, hypotheses in enumerate(results):
        if not hypotheses:
            raise UserError(
                f"source {i} of the batch got no translation: the model's logits are not finite; "
                "try float32, or another checkpoint"
            )
    return results


def _run(
    search: Search,
    cache: DecoderCache,
    read: Iterator[Tensor],
    beam: int,
    penalties: Sequence[float],
    forced_steps: Collection[int],
    limits: Collection[int],
) -> list[list[Hypothesis]]:
    """Step by step until every source is done; those that are leave the batch.

    In forced_steps some source has a token forced, and limits are the lengths at which some source ends.
    """
    origin = list(range(len(search.tokens)))  # which source a row is
    results: list[list[Hypothesis]] = [[] for _ in origin]
    for step, (penalty, logits) in enumerate(zip(penalties, read, strict=False)):
        adapt()
        is_forced, is_last = step in forced_steps, step + 1 in limits
        search.advance(logits.float(), beam, penalty, is_forced=is_forced, is_last=is_last)
        if (step + 1) % look_every(search.tokens.device) and step + 1 < len(penalties):
            continue
        n_live = search.narrow()
        done = [row for row, (n, i) in enumerate(zip(n_live, origin, strict=True)) if not n and not results[i]]
        if done:
            for row, hypotheses in zip(done, search.finished(done), strict=True):
                results[origin[row]] = hypotheses
        n_searched = sum(map(bool, n_live))
        if not n_searched:
            break
        if len(origin) - n_searched >= max(1, len(origin) // _DROP_FRACTION):
            rows = _keep(n_live)
            origin = [origin[row] for row in rows]
            selected = torch.tensor(rows, device=search.tokens.device)
            search.select(selected)
            cache.select(selected)
    return results


def _read(model: EncoderDecoder, draft: EncoderDecoder | None, search: Search, cache: DecoderCache) -> Iterator[Tensor]:
    """Logits (S, W, V) after the newest tokens of the search as it then is, step after step."""
    for step in count():
        hidden = model.decode_hidden(
            search.tokens[:, :, -1],
            source_mask=search.source_mask,
            positions=torch.full((1, 1), step, device=search.tokens.device),
            attention_mask=search.ancestors[:, None],  # (S, 1, W, slots)
            cache=cache,
        )
        yield _logits(model, draft, search, hidden)


def _read_guessing(
    model: EncoderDecoder, draft: EncoderDecoder, search: Search, cache: DecoderCache
) -> Iterator[Tensor]:
    """The same of one hypothesis of one source, (1, 1, V), read as far ahead as the draft guesses right."""
    guesser = Guesser(Lookup(0), lambda n: _draft(draft, search, cache, n))
    while True:
        text = search.tokens[0, 0].tolist()
        guess = guesser.guess(text, cache.capacity - cache.length - 1)
        ids = torch.tensor([[text[-1], *guess]], device=search.tokens.device)
        hidden = model.decode_hidden(ids, source_mask=search.source_mask, cache=cache)  # (1, 1 + G, D)
        logits = _logits(model, draft, search, hidden)
        for right in range(1 + len(guess)):
            yield logits[:, right : right + 1]
            if right == len(guess) or int(search.tokens[0, 0, -1]) != guess[right]:
                break
        cache.drop(len(guess) - right)
        guesser.learn(search.tokens[0, 0, len(text) :].tolist())


def _logits(model: EncoderDecoder, draft: EncoderDecoder | None, search: Search, hidden: Tensor) -> Tensor:
    """(..., D) -> (..., V): of a search that is not scored the highest alone is right, where a draft can tell it."""
    if draft is not None and not search.scored:
        logits = highest_logits(model, draft, hidden)
        if bool((logits[..., search.never[:-1]] < logits.amax(-1, keepdim=True)).all()):
            return logits
    return model.logits(hidden)


def _draft(draft: EncoderDecoder, search: Search, cache: DecoderCache, n: int) -> list[int]:
    """The n tokens, fewer before an end, that the draft would write after the only hypothesis."""
    ids, guess, length = search.tokens[:, 0, -1:], list[int](), cache.length
    while len(guess) < n and draft.config.eos_id not in guess:
        logits = draft.decode(ids, source_mask=search.source_mask, cache=cache)[:, -1]  # (1, V)
        logits[:, search.never[:-1]] = -torch.inf
        ids = logits.argmax(-1, keepdim=True)  # (1, 1)
        guess.append(int(ids))
    cache.drop(cache.length - length)
    return guess


def _check_never(config: EncoderDecoderConfig, never: Collection[int] | None) -> list[int]:
    """Tokens that are no part of a translation."""
    if never is None:
        return sorted(config.never)
    if config.eos_id in never:
        raise UserError(f"never contains eos, {config.eos_id}, without which no translation ends")
    if outside := [token for token in never if not 0 <= token < config.target_size]:
        raise UserError(f"never contains {outside[0]}, outside the vocabulary of {config.target_size}")
    return sorted(set(never))


# Done sources leave the batch once they are 1/16 of it: below that, moving rows costs more than it saves.
_DROP_FRACTION = 16


def _keep(n_live: list[int]) -> list[int]:
    """Rows with live hypotheses, in an order that moves few: those at the end fill the gaps before them."""
    kept = [row for row, n in enumerate(n_live) if n]
    rest = [row for row in kept if row >= len(kept)]
    return [row if n_live[row] else rest.pop() for row in range(len(kept))]


def _length_limits(
    config: EncoderDecoderConfig,
    source: Tensor,
    source_mask: Tensor | None,
    max_extra: int,
    max_length: int | None,
) -> list[int]:
    """For each source, the most tokens of a translation, eos included."""
    lengths = [source.size(1)] * source.size(0) if source_mask is None else source_mask.sum(1).tolist()
    caps = [config.max_seq_len] if config.positions == "learned" else []
    caps += [] if max_length is None else [max_length]
    return [min([n + max_extra, *caps]) for n in lengths]


def _forced_tokens(limits: list[int], prefix: Sequence[Sequence[int]] | None, special: set[int]) -> Tensor:
    """(S, longest limit): the prefix, which has none of the special tokens, then -1 for a free choice."""
    forced = torch.full((len(limits), max(limits)), -1)
    if prefix is None:
        return forced
    if len(prefix) != len(limits):
        raise UserError(f"{len(prefix)} prefixes for {len(limits)} sources: give one each, empty where none is wanted")
    for i, tokens in enumerate(prefix):
        if len(tokens) >= limits[i]:
            raise UserError(f"prefix {i} has {len(tokens)} tokens, but its translation may have {limits[i]} with eos")
        if refused := special & set(tokens):
            raise UserError(f"prefix {i} contains the special id {min(refused)}")
        forced[i, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
    return forced
