"""The state of a beam search and one step of it: tensors only, no model.

Shapes: S sources still searched, P tokens of the longest opening, W live hypotheses of each source (at most `beam`), E
tokens that end, V vocabulary, N `n_best`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.inference.rules import LogitsProcessor


@dataclass(frozen=True)
class Hypothesis:
    """A finished answer: its tokens without the end, log p(tokens, end | source), and that over the length penalty. Of
    a prefix, log p counts what follows it, and the length all.

    `ended`: with an end, or where it was told to stop. One that the length limit cut has none; where the model forces a
    last token, it counts in the length. Either way log p is that of the tokens alone.
    >>> beam_search(translator, [[5, 3]], BeamSearch(max_extra=3))[0][0].log_prob < 0
    True
    """

    tokens: list[int]
    log_prob: float
    score: float
    ended: bool


@dataclass
class Search:
    """The search so far, one row a source. A hypothesis that cannot win has log-probability -inf."""

    opening: Tensor  # (S, P), what hypotheses follow, -1 before the first token
    lengths: Tensor  # (S, 1), tokens of that
    tokens: Tensor  # (S, W, step)
    log_probs: Tensor  # (S, W), falling
    ancestors: Tensor  # (S, W, slots) bool: the cache slots of the hypothesis's own past, newest token included
    done_tokens: Tensor  # (S, N, L), with the end where they ended, filled up with -1
    done_log_probs: Tensor  # (S, N)
    done_scores: Tensor  # (S, N), falling; -inf where there is none yet
    lenient: Tensor  # (S, 1), the most lenient penalty
    limits: Tensor  # (S,), the most tokens, the end included
    forced: Tensor | None  # (S, F), the token that must come at a step, or -1
    special: Tensor  # the tokens that no hypothesis continues with; the last E are the ends
    ends: tuple[int, ...]
    last: int | None  # the token that is forced at the limit
    rules: Sequence[LogitsProcessor]  # more than `special` says
    stop: Callable[[list[int]], bool] | None  # whether a hypothesis of these tokens is complete

    @classmethod
    def start(
        cls,
        opening: Tensor,
        n_best: int,
        lenient: Tensor,
        limits: Tensor,
        forced: Tensor | None,
        *,
        longest: int,
        never: Sequence[int],
        ends: tuple[int, ...],
        last: int | None,
        rules: Sequence[LogitsProcessor],
        stop: Callable[[list[int]], bool] | None = None,
    ) -> "Search":
        n, device = len(opening), opening.device
        none = torch.full((n, n_best), -math.inf, device=device)
        return cls(
            opening=opening,
            lengths=(opening >= 0).sum(1, keepdim=True),
            tokens=opening.new_zeros(n, 1, 0),
            log_probs=none.new_zeros(n, 1),
            ancestors=(opening >= 0)[:, None],
            done_tokens=opening.new_full((n, n_best, longest), -1),
            done_log_probs=none,
            done_scores=none,
            lenient=lenient,
            limits=limits,
            forced=forced,
            special=torch.tensor([*never, *ends], dtype=torch.int64, device=device),
            ends=ends,
            last=last,
            rules=rules,
            stop=stop,
        )

    def texts(self) -> Tensor:
        """All tokens of each hypothesis, (S, W, P + step), -1 before the first."""
        return torch.cat([self.opening[:, None].expand(-1, self.tokens.size(1), -1), self.tokens], 2)

    def advance(self, logits: Tensor, beam: int, penalty: float, *, is_last: bool) -> None:
        """One step, by logits (S, W, V), float32, overwritten. is_last: some source reaches its limit."""
        n = self.tokens.size(2)
        forced = self.forced[:, n] if self.forced is not None and n < self.forced.size(1) else None
        if self.rules:
            logits = self._ruled(logits, beam)
        wanted = beam if self.stop is None else 2 * beam  # as many may stop as live on
        ids, log_probs, ending = _continuations(
            logits, min(wanted, logits.size(-1)), self.special, forced, len(self.ends), normalise=not self.rules
        )
        if forced is not None:  # what is given was not chosen, and costs nothing
            log_probs = log_probs.masked_fill(ids == forced[:, None, None], 0.0)
        k = ids.size(-1)
        log_probs = (self.log_probs[:, :, None] + log_probs).flatten(1)  # (S, W * k)
        ending = (self.log_probs[:, :, None] + ending).flatten(1)  # (S, W * E)
        # Stable, so that equal ones are ordered by hypothesis and rank, whatever else is in the batch.
        live, order = log_probs.sort(stable=True, descending=True)
        live, order = live[:, :wanted], order[:, :wanted]
        parents, chosen = order // k, ids.flatten(1).gather(1, order)
        # A hypothesis ends where its end is among the `beam` best of all continuations: fewer others are better.
        better = (live[:, None] > ending[:, :, None]).sum(-1)  # (S, W * E)
        better += (ending[:, None] > ending[:, :, None]).sum(-1)
        ending = ending.masked_fill(better >= beam, -math.inf)
        texts = torch.cat([_children(self.tokens, parents), chosen[:, :, None]], 2)  # (S, wanted, n + 1)
        if self.stop is not None:
            live, order = self._stopped(self.stop, texts, live, ending, beam, penalty)
            texts, parents = _children(texts, order), parents.gather(1, order)  # (S, beam, ...)
        if is_last:
            live, ending = self._cut(texts, live, ending, beam, penalty)
        self._finish(self._ended(), ending, penalty)

        can_win = live / self.lenient > self.done_scores[:, -1:]
        if beam == 1:
            can_win &= self.done_scores[:, -1:] == -math.inf
        self.log_probs = live.masked_fill(~can_win, -math.inf)
        self.tokens = texts
        own = torch.eye(texts.size(1), dtype=torch.bool, device=logits.device).expand(len(texts), -1, -1)
        self.ancestors = torch.cat([_children(self.ancestors, parents), own], 2)

    def _stopped(
        self,
        stop: Callable[[list[int]], bool],
        texts: Tensor,
        live: Tensor,
        ending: Tensor,
        beam: int,
        penalty: float,
    ) -> tuple[Tensor, Tensor]:
        """Finish those of the best continuations that are complete, as with an end.

        Args:
            texts, live, ending: as for `_cut`, with twice as many continuations.

        Returns:
            Log-probabilities (S, beam) of the best others, and their places (S, beam).
        """
        stopped = torch.tensor([[stop(tokens) for tokens in row] for row in texts.tolist()], device=live.device)
        better = torch.arange(live.size(1), device=live.device) + (ending[:, None] > live[:, :, None]).sum(-1)
        self._finish(texts, live.masked_fill(~stopped | (better >= beam), -math.inf), penalty)
        live, order = live.masked_fill(stopped, -math.inf).sort(stable=True, descending=True)
        return live[:, :beam], order[:, :beam]

    def _ruled(self, logits: Tensor, beam: int) -> Tensor:
        """Log-probabilities (S, W, V) after the rules, which as in transformers are for log-probabilities in a beam,
        and for logits in a greedy search."""
        normaliser = logits.logsumexp(-1, keepdim=True)
        scores, texts = (logits if beam == 1 else logits - normaliser).flatten(0, 1), self.texts().flatten(0, 1)
        for rule in self.rules:
            scores = rule(scores, texts, self.tokens.size(2))
        scores = scores.view_as(logits)
        return scores - normaliser if beam == 1 else scores

    def _ended(self) -> Tensor:
        """Every hypothesis with each of the ends: (S, W * E, n + 1)."""
        n_ends, (n, width, length) = len(self.ends), self.tokens.shape
        tokens = self.tokens[:, :, None].expand(-1, -1, n_ends, -1)
        ends = self.special[len(self.special) - n_ends :][:, None].expand(n, width, -1, -1)
        return torch.cat([tokens, ends], 3).view(n, width * n_ends, length + 1)

    def narrow(self) -> list[int]:
        """How many hypotheses of each source live on, for which the device is waited for; the others are forgotten.

        It is for the time between two steps.
        """
        n_live: list[int] = (self.log_probs > -math.inf).sum(1).tolist()  # the first ones
        width = max(1, *n_live)
        n_slots = self.ancestors.size(2) - self.tokens.size(1) + width
        self.log_probs, self.tokens = self.log_probs[:, :width], self.tokens[:, :width]
        self.ancestors = self.ancestors[:, :width, :n_slots]
        return n_live

    def _cut(self, texts: Tensor, live: Tensor, ending: Tensor, beam: int, penalty: float) -> tuple[Tensor, Tensor]:
        """Finish what lives of the sources at their limit.

        Args:
            texts: (S, beam, n), the best continuations that do not end.
            live: (S, beam), their log-probabilities, falling.
            ending: (S, W * E), log-probabilities of hypotheses that end now, -inf of those that do not.

        Returns:
            `live` and `ending`, -inf of what is not to go on or end now any more.
        """
        last = (self.limits == texts.size(2))[:, None]  # (S, 1)
        if self.last is not None:  # after all that live, at no cost
            tokens = self.tokens if self.last in self.ends else F.pad(self.tokens, (0, 1), value=self.last)
            self._finish(tokens, self.log_probs.masked_fill(~last, -math.inf), penalty)
            ending = ending.masked_fill(last, -math.inf)
        else:
            better = torch.arange(live.size(1), device=live.device) + (ending[:, None] > live[:, :, None]).sum(-1)
            self._finish(texts, live.masked_fill(~last | (better >= beam), -math.inf), penalty)
        return live.masked_fill(last, -math.inf), ending

    def _finish(self, tokens: Tensor, log_probs: Tensor, penalty: float) -> None:
        """Keep the n best of those finished before and these: tokens (S, M, n), log_probs (S, M), -inf for none."""
        longest, n_best = self.done_tokens.size(2), self.done_scores.size(1)
        scores = torch.cat([self.done_scores, log_probs / penalty], 1)
        log_probs = torch.cat([self.done_log_probs, log_probs], 1)
        tokens = F.pad(tokens, (0, longest - tokens.size(2)), value=-1)
        scores, order = scores.sort(stable=True, descending=True)
        self.done_scores, order = scores[:, :n_best], order[:, :n_best]
        self.done_log_probs = log_probs.gather(1, order)
        self.done_tokens = _children(torch.cat([self.done_tokens, tokens], 1), order)

    def finished(self, rows: list[int]) -> list[list[Hypothesis]]:
        """The finished hypotheses of these rows, best first."""
        done = (x[rows].tolist() for x in (self.done_tokens, self.done_log_probs, self.done_scores))
        return [
            [self._hypothesis(*one) for one in zip(*hypotheses, strict=True) if one[-1] > -math.inf]
            for hypotheses in zip(*done, strict=True)
        ]

    def _hypothesis(self, tokens: list[int], log_prob: float, score: float) -> Hypothesis:
        answer = [token for token in tokens if token not in (-1, *self.ends)]
        ended = not set(self.ends).isdisjoint(tokens) or (self.stop is not None and self.stop(answer))
        return Hypothesis(answer, log_prob, score, ended)

    def select(self, rows: Tensor) -> None:
        """Keep these rows."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor) and field.name != "special":
                setattr(self, field.name, value.index_select(0, rows))


def _continuations(
    logits: Tensor, k: int, special: Tensor, forced: Tensor | None, n_ends: int, *, normalise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The k best next tokens that are not special, (S, W, k), their log-probabilities, and those (S, W, E) of the ends.

    Log-probabilities are normalised over all V; if not `normalise`, logits are some already. Where a token is forced
    (S,), the others get -inf. `logits` is overwritten.
    """
    choices, n_never = logits, len(special) - n_ends
    if forced is not None:
        vocabulary = torch.arange(logits.size(-1), device=logits.device)
        choices = logits.masked_fill(((forced[:, None] >= 0) & (forced[:, None] != vocabulary))[:, None], -math.inf)
    held = choices.index_select(-1, special)
    values, ids = _top_k(choices.index_fill_(-1, special, -math.inf), k)
    if not normalise:
        return ids, values, held[..., n_never:]
    choices.index_copy_(-1, special, held)
    highest = logits if forced is not None else torch.cat([values[..., :1], held], -1)
    peak = highest.amax(-1, keepdim=True)  # (S, W, 1)
    # In place: at 32,000 pieces, fresh memory for the exponentials costs more than the exponentials.
    log_normaliser = logits.sub_(peak).exp_().sum(-1, keepdim=True).log_() + peak  # (S, W, 1)
    return ids, values - log_normaliser, held[..., n_never:] - log_normaliser


def _top_k(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`x.topk(k)` over the last axis, for a vocabulary three times as fast.

    The k largest values lie in the k blocks with the largest maxima.
    """
    block = _block_size(x.size(-1))
    if x.size(-1) // block <= k or block == 1:
        values, ids = x.topk(k)
        return values, ids
    blocks = x.unflatten(-1, (-1, block))  # (..., V / block, block)
    best = (
        blocks.amax(-1).topk(k).indices.sort().values
    )  # (..., k); sorted, so that among equal values low ids come first
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
