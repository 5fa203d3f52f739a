"""Beam search with any model that decodes: many sources at once, each treated as if it were alone.

Shapes: S sources still being searched, P tokens of the longest opening, W live hypotheses of each source (at most
    `beam`), V vocabulary.

The W hypotheses of a source share one row of the decoder and are its W query tokens. So cross-attention reads a
source's keys once. The self-attention cache holds the hypotheses' tokens side by side, as a tree that grows from a
prompt; a boolean mask says which of them are a hypothesis's own past. Nothing in the cache is ever reordered or copied
when the beam changes.
"""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from transformer_zoo.blocks import key_mask
from transformer_zoo.config import BeamSearch
from transformer_zoo.errors import UserError
from transformer_zoo.inference.generation import DROP_FRACTION, filling_gaps, token_rows
from transformer_zoo.inference.modes import look_every
from transformer_zoo.inference.packing import check_draft
from transformer_zoo.inference.rules import check_never, forced_tokens, processors
from transformer_zoo.inference.search import Hypothesis, Search
from transformer_zoo.models import DecoderCache, DecodingModel, check_decoding, pad_rows
from transformer_zoo.threads import adapt


@torch.inference_mode()
def beam_search(
    model: DecodingModel,
    sources: Sequence[Sequence[int]] | Tensor,
    how: BeamSearch = BeamSearch(),
    *,
    source_mask: Tensor | None = None,
    prefix: Sequence[Sequence[int]] | None = None,
    never: Collection[int] | None = None,
    stop: Callable[[list[int]], bool] | None = None,
) -> list[list[Hypothesis]]:
    """The best answers to each source, or continuations of each prompt, ordered by log-probability over length penalty.

    Each step extends the hypotheses of the beam by every token. Those among the `beam` best that end leave the beam as
    finished, and the `beam` best of the others stay. A source is done when no live hypothesis can still enter its n
    best, so the result is the same as if the search went on to the length limit. With beam 1 the search is greedy and
    ends at the first end token. At the limit the `beam` best leave the beam whether they end or not. If the model has a
    `forced_last_id`, all live ones do, with a last token that costs nothing. The result for one source does not depend
    on the others in the batch.

    With `penalty` "length", an imported model gives the same as `generate` of transformers with `num_beams`,
    `length_penalty` and `early_stopping="never"`.
    >>> [[best]] = beam_search(translator, [[5, 6, 7, 3]], BeamSearch(beam=2, max_extra=3))

    Args:
        model: a model in evaluation mode.
        sources: token ids, rows of different length or (S, T), each ending in eos. For a decoder-only model they are
            prompts, which must fit into its `max_seq_len` together with their answers.
        how: the settings of the search.
        source_mask: (S, T) booleans, True for a real token of a tensor of sources; None: all are real.
        prefix: for each source, token ids that its answers must begin with. They are given, so only what follows them
            has a log-probability.
        never: tokens that no answer contains, whatever their probability; an end token may not be one. None: those of
            the model's configuration.
        stop: a function of the tokens of an answer; True ends the answer as an end token does.

    Returns:
        The hypotheses of each source.

    Raises:
        UserError: an argument is out of range, a prefix or a prompt does not fit the length limit, or logits are not
            finite.
    """
    check_decoding(model, "beam_search")
    check_draft(model, None)
    if how.n_best > how.beam:
        raise UserError(f"n_best {how.n_best} with beam {how.beam}: n_best must be from 1 to the beam width")
    given = token_rows(_real(sources, source_mask), model.config.vocab_size)
    if not given:
        return []
    search, mask, limits = start_search(model, given, how, prefix=prefix, never=never, stop=stop)
    cache = model.begin(given, search.opening.size(1) + how.beam * (max(limits) - 1))
    results = _run(model, search, cache, mask, how, limits)
    for i, hypotheses in enumerate(results):
        if not hypotheses:
            raise UserError(
                f"source {i} of the batch got no answer: the model's logits are not finite, or no token may follow by "
                "all the rules; try float32, or another checkpoint"
            )
    return results


def start_search(
    model: DecodingModel,
    given: Sequence[Sequence[int]],
    how: BeamSearch,
    *,
    prefix: Sequence[Sequence[int]] | None = None,
    never: Collection[int] | None = None,
    stop: Callable[[list[int]], bool] | None = None,
) -> tuple[Search, Tensor | None, list[int]]:
    """A search before its first step, the mask (S, P) of the openings, and the longest allowed answer of each source;
    arguments as for `beam_search`."""
    facts, device = model.facts, model.head_weight.device
    openings = [model.opening(row) for row in given]
    limits = _length_limits(how, given, openings, facts.context)
    never = check_never(model, never)
    if not set(never).isdisjoint(facts.ends):
        raise UserError(f"never contains eos, {min(set(never) & set(facts.ends))}, without which no answer ends")
    forced = forced_tokens(model, limits, prefix, never)
    # Log-probabilities only fall, so no descendant beats a hypothesis's score at its most lenient penalty.
    lenient = [[max(how.divisor(1), how.divisor(limit))] for limit in limits]  # (S, 1)
    opening, mask = pad_rows(openings, -1, left=True, device=device)  # (S, P)
    search = Search.start(
        opening,
        how.n_best,
        torch.tensor(lenient, device=device),
        torch.tensor(limits, device=device),
        forced,
        longest=max(limits),
        never=never,
        ends=facts.ends,
        last=facts.forced_last_id,
        rules=processors(how, model, ()),
        stop=stop,
    )
    return search, mask, limits


def _run(
    model: DecodingModel,
    search: Search,
    cache: DecoderCache,
    mask: Tensor | None,
    how: BeamSearch,
    limits: Sequence[int],
) -> list[list[Hypothesis]]:
    """Search step by step until every source is done. Sources that are done leave the batch."""
    origin = list(range(len(search.tokens)))  # the source of each row
    results: list[list[Hypothesis]] = [[] for _ in origin]
    ends = set(limits)  # the steps at which some source reaches its limit
    for step in range(1, max(limits) + 1):
        adapt()
        if step == 1:
            logits = model.logits(model.step(search.opening.clamp_min(0), cache, mask=mask)[:, -1:])
        else:
            logits = read_newest(model, search, cache)
        search.advance(logits.float(), how.beam, how.divisor(step), is_last=step in ends)
        if step % look_every(search.tokens.device) and step < max(limits):
            continue
        n_live = search.narrow()
        done = [row for row, (n, i) in enumerate(zip(n_live, origin, strict=True)) if not n and not results[i]]
        if done:
            for row, hypotheses in zip(done, search.finished(done), strict=True):
                results[origin[row]] = hypotheses
        n_searched = sum(map(bool, n_live))
        if not n_searched:
            break
        if len(origin) - n_searched >= max(1, len(origin) // DROP_FRACTION):
            rows = filling_gaps([n > 0 for n in n_live])
            origin = [origin[row] for row in rows]
            selected = torch.tensor(rows, device=search.tokens.device)
            search.select(rows, selected)
            cache.select(selected)
    return results


def read_newest(model: DecodingModel, search: Search, cache: DecoderCache) -> Tensor:
    """Logits (S, W, V) after the newest tokens of the search; everything before them is in the cache."""
    hidden = model.step(
        search.newest,
        cache,
        positions=search.positions,
        attention_mask=search.ancestors[:, None],  # (S, 1, W, slots)
        before=None if cache.recent is None else search.texts()[:, :, :-1],
    )
    return model.logits(hidden)


def _real(sources: Sequence[Sequence[int]] | Tensor, mask: Tensor | None) -> Sequence[Sequence[int]] | Tensor:
    """The rows without padding."""
    if mask is None or not isinstance(sources, Tensor):
        return sources
    key_mask(mask, sources.shape, name="source_mask")
    return [row[real].tolist() for row, real in zip(sources, mask, strict=True)]


def _length_limits(
    how: BeamSearch, given: Sequence[Sequence[int]], openings: Sequence[Sequence[int]], context: int
) -> list[int]:
    """The largest number of tokens of an answer to each source, its end included."""
    limits = []
    for number, (row, opening) in enumerate(zip(given, openings, strict=True), start=1):
        if len(opening) > context:
            raise UserError(f"prompt {number}: {len(opening)} tokens are more than the model takes ({context})")
        room = min(len(row) + how.max_extra, context + 1 - len(opening))
        limits.append(room if how.max_length is None else min(room, how.max_length))
    return limits
