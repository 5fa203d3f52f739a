"""Beam search for the encoder-decoder: many sources at once, each as if it were alone.

Shapes: S sources still searched, W live hypotheses of each (at most `beam`), V target vocabulary, N `n_best`.

The W hypotheses of a source share one row of the decoder: they are its W query tokens, so cross-attention reads a
source's keys once, and the self-attention cache holds the hypotheses' tokens side by side, as a tree. Which of them are
a hypothesis's own past is a boolean mask. Nothing in the cache is ever reordered or copied for another choice of beam.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.models import EncoderDecoder

Penalty = Literal["gnmt", "length"]


@dataclass(frozen=True)
class Hypothesis:
    """A finished translation: its tokens without bos and eos, log p(tokens, eos | source), and that over the penalty."""

    tokens: list[int]
    log_prob: float
    score: float


def length_penalty_at(length: int, alpha: float, penalty: Penalty = "gnmt") -> float:
    """What the log-probability of a hypothesis is divided by; its length counts eos, not bos.

    "gnmt": ((5 + length) / 6)^alpha, Wu et al. 2016, equation 14 (the Transformer paper's, alpha 0.6); "length": length^alpha.

    Raises:
        UserError: an unknown penalty.
    """
    if penalty not in ("gnmt", "length"):
        raise UserError(f"penalty {penalty!r} is unknown: take 'gnmt' or 'length'")
    return float(((5 + length) / 6) ** alpha if penalty == "gnmt" else length**alpha)


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
) -> list[list[Hypothesis]]:
    """The best translations of each source by log-probability over length penalty, best first.

    Each step extends the hypotheses of the beam by every token. What ends in eos among the `beam` best of these leaves the
    beam as finished, and the `beam` best of the others live on. A source is done when no live hypothesis can still enter its
    n best: the result is the same as if the search went on to the length limit. With beam 1 it is greedy, and ends at the
    first eos. At the limit the only continuation is eos, so that a score is always the model's for the whole output.
    What one source gets does not depend on the others in the batch.

    Args:
        model: in evaluation mode.
        source: (S, Ts) token ids, each row ending in eos.
        source_mask: (S, Ts) booleans, True for a real token; None: all are real.
        beam: hypotheses kept at each step.
        length_penalty: the exponent alpha of `length_penalty_at`; 0 for none.
        penalty: "gnmt" or "length".
        max_extra: a translation, eos included, has at most this many tokens more than its source, eos included (and no more
            than learned positions allow).
        max_length: a translation, eos included, has at most this many tokens, whatever its source; None: no such limit.
        n_best: translations wanted of each source, at most `beam`; fewer come back where fewer exist.
        prefix: token ids, for each source, that its translations must begin with.

    Returns:
        For each source its hypotheses, with pad and bos never among the tokens.

    Raises:
        UserError: an argument out of range, or a prefix that does not fit the length limit.
        ValueError: a source has no translation because the model's logits are not finite.
    """
    if not 1 <= n_best <= beam:
        raise UserError(f"n_best {n_best} with beam {beam}: n_best must be from 1 to the beam width")
    if max_extra < 1 or (max_length is not None and max_length < 1):
        raise UserError(f"max_extra {max_extra} and max_length {max_length} must be at least 1: eos alone is a token")
    limits = _length_limits(model.config, source, source_mask, max_extra, max_length)
    penalties = [length_penalty_at(n, length_penalty, penalty) for n in range(1, max(limits) + 1)]
    forced = _forced_tokens(model.config, limits, prefix)
    forced_steps = set((forced >= 0).any(0).nonzero().flatten().tolist())
    # Log-probabilities only fall: no descendant scores better than its ancestor's over the most lenient penalty ahead.
    lenient = torch.tensor([max(penalties[0], penalties[limit - 1]) for limit in limits])[:, None]  # (S, 1)

    memory = model.encode(source, source_mask)
    decoder_cache = model.new_cache(memory, capacity=beam * (max(limits) - 1) + 1)
    search = _Search.start(model.config, n_best, lenient.to(source.device), forced.to(source.device), source_mask)
    origin = list(range(len(limits)))  # which source a row is
    results: list[list[Hypothesis]] = [[] for _ in limits]
    for step in range(max(limits)):
        logits = model.decode(
            search.tokens[:, :, -1],
            source_mask=search.source_mask,
            positions=torch.full((1, 1), step, device=source.device),
            attention_mask=search.ancestors[:, None],  # (S, 1, W, slots)
            cache=decoder_cache,
        )
        n_live = search.advance(logits.float(), beam, penalties[step], step in forced_steps)
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
            selected = torch.tensor(rows, device=source.device)
            search.select(selected)
            decoder_cache.select(selected)
    for i, hypotheses in enumerate(results):
        if not hypotheses:
            raise ValueError(f"source {i} of the batch got no translation: the model's logits are not finite")
    return results


# Done sources leave the batch once they are 1/8 of it: the rest of the cache need not be touched for every single one.
_DROP_FRACTION = 8


@dataclass
class _Search:
    """The state of the search, one row a source. A hypothesis that cannot win any more has log-probability -inf."""

    tokens: Tensor  # (S, W, step + 1), starting with bos
    log_probs: Tensor  # (S, W), falling
    ancestors: Tensor  # (S, W, slots) bool: which cache slots are the hypothesis's own past and its newest token
    done_tokens: Tensor  # (S, N, L), filled up with pad
    done_log_probs: Tensor  # (S, N)
    done_scores: Tensor  # (S, N), falling; -inf where there is none yet
    lenient: Tensor  # (S, 1), the most lenient penalty
    forced: Tensor  # (S, L), the token that must come at a step, or -1
    source_mask: Tensor | None  # (S, Ts)
    never: Tensor  # the ids of pad, bos and eos
    config: EncoderDecoderConfig

    @classmethod
    def start(
        cls, config: EncoderDecoderConfig, n_best: int, lenient: Tensor, forced: Tensor, source_mask: Tensor | None
    ) -> "_Search":
        n, longest = forced.shape
        none = torch.full((n, n_best), -math.inf, device=forced.device)
        return cls(
            tokens=forced.new_full((n, 1, 1), config.bos_id),
            log_probs=none.new_zeros(n, 1),
            ancestors=torch.ones(n, 1, 1, dtype=torch.bool, device=forced.device),
            done_tokens=forced.new_full((n, n_best, longest), config.pad_id),
            done_log_probs=none,
            done_scores=none,
            lenient=lenient,
            forced=forced,
            source_mask=source_mask,
            never=torch.tensor([config.pad_id, config.bos_id, config.eos_id], device=forced.device),
            config=config,
        )

    def advance(self, logits: Tensor, beam: int, penalty: float, is_forced: bool) -> list[int]:
        """One step. logits (S, W, V) float32, overwritten. Returns how many hypotheses of each source live on."""
        forced = self.forced[:, self.tokens.size(2) - 1] if is_forced else None
        ids, log_probs, ending = _continuations(logits, min(beam, logits.size(-1)), self.never, forced)
        k = ids.size(-1)
        log_probs = (self.log_probs[:, :, None] + log_probs).flatten(1)  # (S, W * k)
        ending = self.log_probs + ending  # (S, W)
        # Stable, so that equal ones are ordered by hypothesis and rank, whatever else is in the batch.
        live, order = log_probs.sort(stable=True, descending=True)
        live, order = live[:, :beam], order[:, :beam]
        better = (live[:, None] > ending[:, :, None]).sum(-1) + (ending[:, None] > ending[:, :, None]).sum(-1)  # (S, W)
        self._finish(ending.masked_fill(better >= beam, -math.inf), penalty)

        can_win = live / self.lenient > self.done_scores[:, -1:]
        if beam == 1:
            can_win &= self.done_scores[:, -1:] == -math.inf
        n_live: list[int] = can_win.sum(1).tolist()  # the step's one wait for the device
        width = max(1, *n_live)
        parents = (order // k)[:, :width]  # (S, W)
        chosen = ids.flatten(1).gather(1, order[:, :width])
        self.log_probs = live.masked_fill(~can_win, -math.inf)[:, :width]
        self.tokens = torch.cat([_children(self.tokens, parents), chosen[:, :, None]], 2)
        own = torch.eye(width, dtype=torch.bool, device=logits.device).expand(len(n_live), -1, -1)
        self.ancestors = torch.cat([_children(self.ancestors, parents), own], 2)
        return n_live

    def _finish(self, log_probs: Tensor, penalty: float) -> None:
        """Keep the n best of what was finished before and the hypotheses that end now, log_probs (S, W) with eos."""
        longest, n_best = self.done_tokens.size(2), self.done_scores.size(1)
        scores = torch.cat([self.done_scores, log_probs / penalty], 1)
        log_probs = torch.cat([self.done_log_probs, log_probs], 1)
        ended = self.tokens[:, :, 1:]
        ended = F.pad(ended, (0, longest - ended.size(2)), value=self.config.pad_id)
        scores, order = scores.sort(stable=True, descending=True)
        self.done_scores, order = scores[:, :n_best], order[:, :n_best]
        self.done_log_probs = log_probs.gather(1, order)
        self.done_tokens = _children(torch.cat([self.done_tokens, ended], 1), order)

    def finished(self, rows: list[int]) -> list[list[Hypothesis]]:
        """The finished hypotheses of these rows, best first."""
        n_best = zip(*(x[rows].tolist() for x in (self.done_tokens, self.done_log_probs, self.done_scores)), strict=True)
        return [
            [
                Hypothesis([token for token in tokens if token != self.config.pad_id], log_prob, score)
                for tokens, log_prob, score in zip(*hypotheses, strict=True)
                if score > -math.inf
            ]
            for hypotheses in n_best
        ]

    def select(self, rows: Tensor) -> None:
        """Keep these rows."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor) and field.name != "never":
                setattr(self, field.name, value.index_select(0, rows))


def _continuations(logits: Tensor, k: int, never: Tensor, forced: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The k best next tokens other than pad, bos and eos, (S, W, k), their log-probabilities, and eos's (S, W).

    Log-probabilities are normalised over all V; where a token is forced (S,), the others get -inf. `logits` is overwritten.
    """
    choices = logits
    if forced is not None:
        vocabulary = torch.arange(logits.size(-1), device=logits.device)
        choices = logits.masked_fill(((forced[:, None] >= 0) & (forced[:, None] != vocabulary))[:, None], -math.inf)
    special = choices.index_select(-1, never)
    values, ids = _top_k(choices.index_fill_(-1, never, -math.inf), k)
    choices.index_copy_(-1, never, special)
    # In place: at 32,000 pieces, fresh memory for the exponentials costs more than the exponentials.
    peak = logits.amax(-1, keepdim=True)
    log_normaliser = logits.sub_(peak).exp_().sum(-1, keepdim=True).log_() + peak  # (S, W, 1)
    return ids, values - log_normaliser, special[..., -1] - log_normaliser[..., 0]


def _top_k(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`x.topk(k)` over the last axis, three times as fast for a vocabulary: the k largest are in the k blocks with the largest maxima."""
    block = _block_size(x.size(-1))
    if x.size(-1) // block <= k or block == 1:
        values, ids = x.topk(k)
        return values, ids
    blocks = x.unflatten(-1, (-1, block))  # (..., V / block, block)
    best = blocks.amax(-1).topk(k).indices.sort().values  # (..., k); sorted, so that among equal values low ids come first
    inside = blocks.gather(-2, best[..., None].expand(*best.shape, block)).flatten(-2)  # (..., k * block)
    values, places = inside.topk(k)
    return values, best.gather(-1, places // block) * block + places % block


@cache
def _block_size(n: int) -> int:
    """The divisor of n nearest to 64 among those from 16 to 128, or 1."""
    return min((d for d in range(16, 129) if n % d == 0), key=lambda d: abs(d - 64), default=1)


def _children(x: Tensor, parents: Tensor) -> Tensor:
    """x (S, W, n) and parents (S, W') -> x[s, parents[s, w]], (S, W', n)."""
    return x.gather(1, parents[:, :, None].expand(-1, -1, x.size(2)))


def _keep(n_live: list[int]) -> list[int]:
    """Rows with live hypotheses, in an order that moves as few as possible: those at the end fill the gaps before them."""
    kept = [row for row, n in enumerate(n_live) if n]
    rest = [row for row in kept if row >= len(kept)]
    return [row if n_live[row] else rest.pop() for row in range(len(kept))]


def _length_limits(
    config: EncoderDecoderConfig, source: Tensor, source_mask: Tensor | None, max_extra: int, max_length: int | None
) -> list[int]:
    """For each source, the most tokens of a translation, eos included."""
    lengths = [source.size(1)] * source.size(0) if source_mask is None else source_mask.sum(1).tolist()
    caps = [config.max_seq_len] if config.positions == "learned" else []
    caps += [] if max_length is None else [max_length]
    return [min([n + max_extra, *caps]) for n in lengths]


def _forced_tokens(config: EncoderDecoderConfig, limits: list[int], prefix: Sequence[Sequence[int]] | None) -> Tensor:
    """(S, longest limit): the prefix, then -1 for a free choice, and eos at the limit."""
    forced = torch.full((len(limits), max(limits)), -1)
    for i, limit in enumerate(limits):
        forced[i, limit - 1] = config.eos_id
    if prefix is None:
        return forced
    if len(prefix) != len(limits):
        raise UserError(f"{len(prefix)} prefixes for {len(limits)} sources: give one each, empty where none is wanted")
    for i, tokens in enumerate(prefix):
        if len(tokens) >= limits[i]:
            raise UserError(f"prefix {i} has {len(tokens)} tokens, but its translation may have {limits[i]} with eos")
        if special := {config.pad_id, config.bos_id, config.eos_id} & set(tokens):
            raise UserError(f"prefix {i} contains the special id {min(special)}")
        forced[i, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
    return forced
