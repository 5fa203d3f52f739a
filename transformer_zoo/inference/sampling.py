"""From logits to the next token: rules, temperature, filters and the draw.

Shapes: B rows, V vocabulary. A filter returns the logits with -inf for the tokens that may not be drawn.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor

from transformer_zoo.config import Sampling
from transformer_zoo.inference.rules import LogitsProcessor
from transformer_zoo.kernels.cpu import with_float64

NOT_FINITE = -1
"""Stands for a token if logits are not numbers or nothing may be written."""


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """(B, V) logits divided by the temperature, with the highest moved to 0. At temperature 0 only the highest is
    left."""
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter(-1, best, 0.0)
    return (logits - logits.amax(-1, keepdim=True)) / temperature  # moved first: no temperature overflows


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k highest of (B, V) logits: exactly k, also if several are equal (Fan et al. 2018)."""
    if k >= logits.size(-1):
        return logits
    values, ids = logits.topk(k)
    return torch.full_like(logits, -torch.inf).scatter(-1, ids, values)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest tokens of (B, V) logits that together have probability p, including the one that reaches it.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    if logits.device.type != "cpu":  # to know which rows need more than `_ENOUGH`, the CPU would have to wait
        return _keep_nucleus(logits, *logits.sort(dim=-1, descending=True, stable=True), p)
    kept = _keep_nucleus(logits, *logits.topk(min(_ENOUGH, logits.size(-1))), p)
    short = kept.isneginf().all(-1)  # rows that need more than `_ENOUGH` tokens, decided for each row alone
    if short.any():
        rest = logits[short]
        kept[short] = _keep_nucleus(rest, *rest.sort(dim=-1, descending=True, stable=True), p)
    return kept


_ENOUGH = 1024  # tokens that contain most nuclei; finding them is several times faster than sorting all


def _keep_nucleus(logits: Tensor, values: Tensor, ids: Tensor, p: float) -> Tensor:
    """`keep_top_p` of the highest n logits and their ids, (B, n), in falling order; keep nothing where n are too
    few."""
    probabilities = (values - logits.logsumexp(-1, keepdim=True)).exp()
    reached = probabilities.cumsum(-1)
    too_few = (reached[:, -1:] < p) & (values.size(-1) < logits.size(-1))
    dropped = (reached - probabilities >= p) | too_few
    return torch.full_like(logits, -torch.inf).scatter_(-1, ids, values.masked_fill(dropped, -torch.inf))


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep the tokens of (B, V) logits at least p times as likely as the most likely one (Nguyen et al. 2024)."""
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(p), -torch.inf)


def generators_of(seeds: Sequence[int], device: torch.device) -> list[torch.Generator]:
    """A generator for each seed, on the device where `sample` draws for logits on this one."""
    return [torch.Generator(with_float64(device)).manual_seed(seed) for seed in seeds]


def sample(logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token of each row from the softmax of its logits, by its own generator: (B, V) -> (B,).

    The token is the winner of an exponential race (the Gumbel-max trick). So a row's draw depends only on its logits
    and its generator, and rounding in the logits changes it only when two tokens almost tie.

    Args:
        logits: (B, V), -inf where a token may not be drawn.
        generators: of `generators_of`, one a row.
    """
    home = with_float64(logits.device)
    # float32 cannot represent anything rarer than 1e-7.
    noise = torch.empty(logits.shape, dtype=torch.float64, device=home)
    for row, generator in zip(noise, generators, strict=True):
        row.uniform_(generator=generator)
    return (logits.to(home) - noise.log_().neg_().log_()).argmax(-1).to(logits.device)


def filtered(scores: Tensor, how: Sampling) -> Tensor:
    """Temperature, top-k, top-p, min-p, in this order: (B, V) -> (B, V)."""
    if how.is_greedy:
        return apply_temperature(scores, 0)  # the most likely passes every filter
    if how.temperature != 1:
        scores = apply_temperature(scores, how.temperature)
    if how.top_k is not None:
        scores = keep_top_k(scores, how.top_k)
    if how.top_p is not None and how.top_p < 1:
        scores = keep_top_p(scores, how.top_p)
    return keep_min_p(scores, how.min_p) if how.min_p else scores


class Chooser:
    """Chooses the next token of each row, and remembers the tokens if rules need them.

    Args:
        how: how scores are changed and drawn from.
        rules: the rules that are applied before.
        generators: of `generators_of`, one a row.
        texts: (B, T) ids, -1 before the first of each; rules read them.
        forced: (B, longest answer), tokens that must be written, -1 for a free choice; None: all choices are free.
    """

    def __init__(
        self,
        how: Sampling,
        rules: Sequence[LogitsProcessor],
        generators: Sequence[torch.Generator],
        texts: Tensor,
        forced: Tensor | None = None,
    ) -> None:
        self.how, self.rules, self.generators = how, rules, list(generators)
        self.texts, self.forced, self.n_written = texts, forced, 0

    def choose(self, logits: Tensor, exact: Callable[[], Tensor] | None = None) -> Tensor:
        """The next token of each row from its logits (B, V): (B,). Greedy choice takes the first of the highest.

        exact: returns all logits, if only the highest of `logits` is right.
        """
        scores = self.scores(logits)
        if exact is not None and bool((scores.amax(-1) < logits.amax(-1)).any()):
            scores = self.scores(exact())  # the highest may not be written
        chosen = scores.argmax(-1) if self.how.is_greedy else sample(filtered(scores, self.how), self.generators)
        chosen = chosen.where(scores.gather(1, chosen[:, None])[:, 0].isfinite(), NOT_FINITE)
        self.n_written += 1
        if self.rules:
            self.texts = torch.cat([self.texts, chosen[:, None]], 1)
        return chosen

    def scores(self, logits: Tensor) -> Tensor:
        """(B, V) logits after all rules."""
        for rule in self.rules:
            logits = rule(logits, self.texts, self.n_written)
        if self.forced is None or self.n_written >= self.forced.size(1):
            return logits
        forced = self.forced[:, self.n_written, None]  # (B, 1)
        only = torch.full_like(logits, -torch.inf).scatter(1, forced.clamp_min(0), 0.0)
        return torch.where(forced >= 0, only, logits)

    def keep(self, rows: Sequence[int], places: Tensor) -> None:
        """Keep only these rows, in this order; `places` are the same indices, on the device."""
        self.generators = [self.generators[row] for row in rows]
        self.texts = self.texts[places] if self.rules else self.texts
        self.forced = None if self.forced is None else self.forced[places]

    def copied(self) -> "Chooser":
        """A copy that draws with the same noise, without changing this one."""
        other = copy(self)
        other.generators = [generator.clone_state() for generator in self.generators]
        return other
