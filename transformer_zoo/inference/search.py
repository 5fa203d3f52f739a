"""The state of a beam search and one step of it; it has tensors only, no model.

Shapes: S sources still being searched, P tokens of the longest opening, W live hypotheses of each source (at most
    `beam`), E end tokens, V vocabulary, N `n_best`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.inference.continuations import behind, children, continuations
from transformer_zoo.inference.rules import LogitsProcessor

Penalty = float | Tensor
"""The divisor of log-probabilities: one for all sources, or (S, 1)."""


@dataclass(frozen=True)
class Hypothesis:
    """A finished answer: its tokens without the end, log p(tokens, end | source), and that over the length penalty.
    After a prefix, log p counts only what follows, and the length counts everything.

    `ended`: the answer has an end, or was told to stop. An answer that the length limit cut has no end. If the model
        forces a last token, that token counts in the length. Either way log p is that of the tokens alone.
    >>> beam_search(translator, [[5, 3]], BeamSearch(max_extra=3))[0][0].log_prob < 0
    True
    """

    tokens: list[int]
    log_prob: float
    score: float
    ended: bool


@dataclass
class Search:
    """The search so far, one row for each source. A hypothesis that cannot win has log-probability -inf.

    Rows may have begun at different steps; shorter ones are then padded at the beginning.
    """

    opening: Tensor  # (S, P), what hypotheses follow, -1 before the first token
    lengths: Tensor  # (S, 1), tokens of that
    tokens: Tensor  # (S, W, step), -1 before the first
    ages: list[int]  # steps that each row has taken
    log_probs: Tensor  # (S, W), falling
    ancestors: Tensor  # (S, W, slots) bool: the cache slots of the hypothesis's own past, newest token included
    done_tokens: Tensor  # (S, N, L), with the end where they ended, padded with -1
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
            ages=[0] * n,
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
        texts, age = torch.cat([self.opening[:, None].expand(-1, self.tokens.size(1), -1), self.tokens], 2), self.age
        return texts if isinstance(age, int) else behind(texts, self.opening.size(1), self.tokens.size(2) - age)

    @property
    def age(self) -> int | Tensor:
        """Number of tokens of each row: one number, or (S,)."""
        return self.ages[0] if len(set(self.ages)) == 1 else torch.tensor(self.ages, device=self.tokens.device)

    @property
    def newest(self) -> Tensor:
        """The last token of each hypothesis, (S, W)."""
        if min(self.ages):
            return self.tokens[:, :, -1]
        last, age = self.opening[:, -1:].expand(-1, self.tokens.size(1)), self.age
        return last if isinstance(age, int) else torch.where(age[:, None] == 0, last, self.tokens[:, :, -1])

    @property
    def positions(self) -> Tensor:
        """Positions of the newest tokens, (S, 1)."""
        age = self.age
        return self.lengths + (age - 1 if isinstance(age, int) else age[:, None] - 1)

    def _forced_now(self) -> Tensor | None:
        """The token that must come next, (S,), or -1; None: no token is forced."""
        if self.forced is None or min(self.ages) >= (longest := self.forced.size(1)):
            return None
        if isinstance(age := self.age, int):
            return self.forced[:, age]
        return self.forced.gather(1, age[:, None].clamp_max(longest - 1))[:, 0].masked_fill(age >= longest, -1)

    def advance(self, logits: Tensor, beam: int, penalty: Penalty, *, is_last: bool) -> None:
        """Take one step by logits (S, W, V) in float32, which are overwritten.

        penalty: for answers that end now; (S, 1) if rows have begun at different steps. is_last: some source reaches
            its limit.
        """
        forced = self._forced_now()
        if self.rules:
            logits = self._ruled(logits, beam)
        wanted = beam if self.stop is None else 2 * beam  # as many may stop as live on
        ids, log_probs, ending = continuations(
            logits, min(wanted, logits.size(-1)), self.special, forced, len(self.ends), normalise=not self.rules
        )
        if forced is not None:  # a given token was not chosen, and costs nothing
            log_probs = log_probs.masked_fill(ids == forced[:, None, None], 0.0)
        k = ids.size(-1)
        log_probs = (self.log_probs[:, :, None] + log_probs).flatten(1)  # (S, W * k)
        ending = (self.log_probs[:, :, None] + ending).flatten(1)  # (S, W * E)
        # Stable sorting orders equal ones by hypothesis and rank, whatever else is in the batch.
        live, order = log_probs.sort(stable=True, descending=True)
        live, order = live[:, :wanted], order[:, :wanted]
        parents, chosen = order // k, ids.flatten(1).gather(1, order)
        # A hypothesis ends if its end is among the `beam` best of all continuations: fewer than `beam` others are
        # better.
        better = (live[:, None] > ending[:, :, None]).sum(-1)  # (S, W * E)
        better += (ending[:, None] > ending[:, :, None]).sum(-1)
        ending = ending.masked_fill(better >= beam, -math.inf)
        texts = torch.cat([children(self.tokens, parents), chosen[:, :, None]], 2)  # (S, wanted, n + 1)
        if self.stop is not None:
            live, order = self._stopped(self.stop, texts, live, ending, beam, penalty)
            texts, parents = children(texts, order), parents.gather(1, order)  # (S, beam, ...)
        if is_last:
            live, ending = self._cut(texts, live, ending, beam, penalty)
        self._finish(self._ended(), ending, penalty)

        can_win = live / self.lenient > self.done_scores[:, -1:]
        if beam == 1:
            can_win &= self.done_scores[:, -1:] == -math.inf
        self.log_probs = live.masked_fill(~can_win, -math.inf)
        self.tokens, self.ages = texts, [age + 1 for age in self.ages]
        own = torch.eye(texts.size(1), dtype=torch.bool, device=logits.device).expand(len(texts), -1, -1)
        self.ancestors = torch.cat([children(self.ancestors, parents), own], 2)

    def _stopped(
        self,
        stop: Callable[[list[int]], bool],
        texts: Tensor,
        live: Tensor,
        ending: Tensor,
        beam: int,
        penalty: Penalty,
    ) -> tuple[Tensor, Tensor]:
        """Finish the best continuations that are complete, as if they had an end.

        Args:
            texts, live, ending: as for `_cut`, with twice as many continuations.

        Returns:
            Log-probabilities (S, beam) of the best others, and their indices (S, beam).
        """
        stopped = torch.tensor(
            [[stop(_written(tokens)) for tokens in row] for row in texts.tolist()], device=live.device
        )
        better = torch.arange(live.size(1), device=live.device) + (ending[:, None] > live[:, :, None]).sum(-1)
        self._finish(texts, live.masked_fill(~stopped | (better >= beam), -math.inf), penalty)
        live, order = live.masked_fill(stopped, -math.inf).sort(stable=True, descending=True)
        return live[:, :beam], order[:, :beam]

    def _ruled(self, logits: Tensor, beam: int) -> Tensor:
        """Log-probabilities (S, W, V) after the rules. As in transformers, rules apply to log-probabilities in a beam,
        and to logits in a greedy search."""
        normaliser = logits.logsumexp(-1, keepdim=True)
        scores, texts = (logits if beam == 1 else logits - normaliser).flatten(0, 1), self.texts().flatten(0, 1)
        if isinstance(self.age, int):
            scores = self._by_rules(scores, texts, self.age)
        else:
            width, rows = self.tokens.size(1), [*enumerate(self.ages)]
            for age in set(self.ages):
                places = [i * width + w for i, own in rows if own == age for w in range(width)]
                some = torch.tensor(places, device=scores.device)
                scores[some] = self._by_rules(scores[some], texts[some], age)
        scores = scores.view_as(logits)
        return scores - normaliser if beam == 1 else scores

    def _by_rules(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        for rule in self.rules:
            scores = rule(scores, texts, n_written)
        return scores

    def _ended(self) -> Tensor:
        """Every hypothesis with each of the ends: (S, W * E, n + 1)."""
        n_ends, (n, width, length) = len(self.ends), self.tokens.shape
        tokens = self.tokens[:, :, None].expand(-1, -1, n_ends, -1)
        ends = self.special[len(self.special) - n_ends :][:, None].expand(n, width, -1, -1)
        return torch.cat([tokens, ends], 3).view(n, width * n_ends, length + 1)

    def narrow(self) -> list[int]:
        """How many hypotheses of each source stay alive; the others are forgotten. The CPU waits for the device here.

        Call it between two steps.
        """
        n_live: list[int] = (self.log_probs > -math.inf).sum(1).tolist()  # the first ones
        width = max(1, *n_live)
        n_slots = self.ancestors.size(2) - self.tokens.size(1) + width
        self.log_probs, self.tokens = self.log_probs[:, :width], self.tokens[:, :width]
        self.ancestors = self.ancestors[:, :width, :n_slots]
        return n_live

    def _cut(self, texts: Tensor, live: Tensor, ending: Tensor, beam: int, penalty: Penalty) -> tuple[Tensor, Tensor]:
        """Finish the live hypotheses of the sources that reach their limit.

        Args:
            texts: (S, beam, n), the best continuations that do not end.
            live: (S, beam), their log-probabilities, falling.
            ending: (S, W * E), log-probabilities of hypotheses that end now, -inf for the others.

        Returns:
            `live` and `ending`, with -inf for what can no longer continue or end.
        """
        last = (self.limits == self.age + 1)[:, None]  # (S, 1)
        if self.last is not None:  # after all that live, at no cost
            tokens = self.tokens if self.last in self.ends else F.pad(self.tokens, (0, 1), value=self.last)
            self._finish(tokens, self.log_probs.masked_fill(~last, -math.inf), penalty)
            ending = ending.masked_fill(last, -math.inf)
        else:
            better = torch.arange(live.size(1), device=live.device) + (ending[:, None] > live[:, :, None]).sum(-1)
            self._finish(texts, live.masked_fill(~last | (better >= beam), -math.inf), penalty)
        return live.masked_fill(last, -math.inf), ending

    def _finish(self, tokens: Tensor, log_probs: Tensor, penalty: Penalty) -> None:
        """Keep the n best of the finished hypotheses and these: tokens (S, M, n), log_probs (S, M), -inf for none."""
        longest, n_best = self.done_tokens.size(2), self.done_scores.size(1)
        scores = torch.cat([self.done_scores, log_probs / penalty], 1)
        log_probs = torch.cat([self.done_log_probs, log_probs], 1)
        tokens = F.pad(tokens, (0, longest - tokens.size(2)), value=-1)
        scores, order = scores.sort(stable=True, descending=True)
        self.done_scores, order = scores[:, :n_best], order[:, :n_best]
        self.done_log_probs = log_probs.gather(1, order)
        self.done_tokens = children(torch.cat([self.done_tokens, tokens], 1), order)

    def finished(self, rows: list[int]) -> list[list[Hypothesis]]:
        """The finished hypotheses of these rows, the best first."""
        done = (x[rows].tolist() for x in (self.done_tokens, self.done_log_probs, self.done_scores))
        return [
            [self._hypothesis(*one) for one in zip(*hypotheses, strict=True) if one[-1] > -math.inf]
            for hypotheses in zip(*done, strict=True)
        ]

    def _hypothesis(self, tokens: list[int], log_prob: float, score: float) -> Hypothesis:
        answer = [token for token in _written(tokens) if token not in self.ends]
        ended = not set(self.ends).isdisjoint(tokens) or (self.stop is not None and self.stop(answer))
        return Hypothesis(answer, log_prob, score, ended)

    def select(self, rows: Sequence[int], places: Tensor) -> None:
        """Keep these rows, in this order; `places` are the same indices, on the device."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor) and field.name != "special":
                setattr(self, field.name, value.index_select(0, places))
        self.ages = [self.ages[row] for row in rows]
        self.tokens = self.tokens[:, :, self.tokens.size(2) - max(self.ages, default=0) :]


def _written(tokens: Sequence[int]) -> list[int]:
    """The tokens without padding."""
    return [token for token in tokens if token >= 0]
