"""From logits to the next token: temperature, filters and the draw, each a function of its arguments.

Shapes: B rows, V vocabulary. A filter gives the logits back, with -inf for the tokens that may not be drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_zoo.errors import UserError


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Tokens that were there before become less likely (Keskar et al. 2019, "CTRL", section 4.1).

    Positive logits are divided by the penalty, negative ones multiplied with it, so that both fall.

    Args:
        logits: (B, V).
        seen: (B, V) booleans, True for tokens of the row.
        penalty: 1 for none, more for less repetition.
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """(B, V) logits over the temperature, the highest moved to 0; with temperature 0 only that one is left."""
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter(-1, best, 0.0)
    return (logits - logits.amax(-1, keepdim=True)) / temperature  # moved first: no temperature overflows


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """The k highest of (B, V) logits: exactly k, also where several are equal (Fan et al. 2018)."""
    if k >= logits.size(-1):
        return logits
    values, ids = logits.topk(k)
    return torch.full_like(logits, -torch.inf).scatter(-1, ids, values)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The fewest tokens of (B, V) logits that together have probability p, the one that reaches it included.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    if logits.device.type != "cpu":  # which rows need more than `_ENOUGH` would have to be waited for
        return _keep_nucleus(logits, *logits.sort(dim=-1, descending=True, stable=True), p)
    kept = _keep_nucleus(logits, *logits.topk(min(_ENOUGH, logits.size(-1))), p)
    short = kept.isneginf().all(-1)  # rows that need more than `_ENOUGH` tokens, for each row to decide alone
    if short.any():
        rest = logits[short]
        kept[short] = _keep_nucleus(rest, *rest.sort(dim=-1, descending=True, stable=True), p)
    return kept


_ENOUGH = 1024  # tokens hold most nuclei, and are found several times faster than all are sorted


def _keep_nucleus(logits: Tensor, values: Tensor, ids: Tensor, p: float) -> Tensor:
    """`keep_top_p` of the highest n logits and their ids, (B, n), in falling order; nothing where n are too few."""
    probabilities = (values - logits.logsumexp(-1, keepdim=True)).exp()
    reached = probabilities.cumsum(-1)
    too_few = (reached[:, -1:] < p) & (values.size(-1) < logits.size(-1))
    dropped = (reached - probabilities >= p) | too_few
    return torch.full_like(logits, -torch.inf).scatter_(-1, ids, values.masked_fill(dropped, -torch.inf))


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """The tokens of (B, V) logits at least p times as likely as the likeliest (Nguyen et al. 2024)."""
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(p), -torch.inf)


def sample(logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One token of each row, with the probabilities of its softmax, by its own generator: (B, V) -> (B,).

    The winner of an exponential race (the Gumbel-max trick): a row's draw depends on nothing but its logits and its
    generator, and rounding in the logits changes it only where two tokens all but tie.

    Args:
        logits: (B, V), -inf where a token may not be drawn.
        generators: one a row, on the device of the logits.
    """
    noise = torch.empty_like(logits, dtype=torch.float64)  # float32 has no numbers for what is rarer than 1e-7
    for row, generator in zip(noise, generators, strict=True):
        row.uniform_(generator=generator)
    return (logits - noise.log_().neg_().log_()).argmax(-1)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen; what is None, or 1 for temperature and penalty, is not done at all.

    Raises:
        UserError: a number out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0 <= self.temperature < math.inf, "from 0 up")
        _check("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "at least 1")
        _check("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "above 0, at most 1")
        _check("min_p", self.min_p, self.min_p is None or 0 <= self.min_p <= 1, "from 0 to 1")
        penalty = self.repetition_penalty
        _check("repetition_penalty", penalty, 0 < penalty < math.inf, "above 0")

    @property
    def is_greedy(self) -> bool:
        """Whether there is nothing to draw."""
        return self.temperature == 0 or self.top_k == 1

    @property
    def takes_highest(self) -> bool:
        """Whether it all depends on which logit is the highest."""
        return self.is_greedy and self.repetition_penalty == 1

    def filter(self, logits: Tensor, seen: Tensor | None = None) -> Tensor:
        """All of the above in this order: penalty, temperature, top-k, top-p, min-p. (B, V) -> (B, V).

        seen: (B, V) booleans, True for tokens of the row; only the penalty needs them.
        """
        if seen is not None and self.repetition_penalty != 1:
            logits = penalize_repetition(logits, seen, self.repetition_penalty)
        if self.is_greedy:
            return apply_temperature(logits, 0)
        if self.temperature != 1:
            logits = apply_temperature(logits, self.temperature)
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None and self.top_p < 1:
            logits = keep_top_p(logits, self.top_p)
        return keep_min_p(logits, self.min_p) if self.min_p else logits

    def choose(self, logits: Tensor, generators: Sequence[torch.Generator], seen: Tensor | None = None) -> Tensor:
        """The next token of each row: (B, V) -> (B,). Greedy, it takes the first of the highest and draws nothing."""
        if self.is_greedy:  # the likeliest passes every filter
            if seen is not None:
                logits = penalize_repetition(logits, seen, self.repetition_penalty)
            return logits.argmax(-1)
        return sample(self.filter(logits, seen), generators)


def _check(name: str, value: float | None, fits: bool, wanted: str) -> None:
    if not fits:
        raise UserError(f"{name} {value} is out of range: it is a number {wanted}")
