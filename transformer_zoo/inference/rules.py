"""What may be written next, one class a rule: a logits processor, the same for every model and every way of writing.

Shapes: N texts, T tokens, V vocabulary. A rule is called with scores (N, V), which are logits, or log-probabilities in
a beam search; with the texts so far, (N, T) ids, -1 before the first of each; and with how many of their tokens were
written, the same for all. It gives scores back, -inf for what may not follow.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from transformer_zoo.config import Rules
from transformer_zoo.errors import UserError
from transformer_zoo.models import DecodingModel, pad_rows


class LogitsProcessor(Protocol):
    """A rule."""

    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor: ...


@dataclass(frozen=True)
class RepetitionPenalty:
    """Tokens that were there before become less likely (Keskar et al. 2019, "CTRL", section 4.1).

    Positive scores are divided by the penalty, negative ones multiplied with it, so that both fall.
    """

    penalty: float

    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        seen = _tokens_of(texts, scores)
        return torch.where(seen, torch.where(scores > 0, scores / self.penalty, scores * self.penalty), scores)


@dataclass(frozen=True)
class NoRepeatedNgrams:
    """No run of `size` tokens is written that the text has already (Paulus et al. 2018, section 2.5)."""

    size: int

    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        length = texts.size(1)
        if length < self.size:
            return scores
        windows = texts.unfold(1, self.size, 1)  # (N, T - size + 1, size)
        newest = texts[:, length + 1 - self.size :]  # (N, size - 1)
        again = (windows[..., :-1] == newest[:, None]).all(-1)  # (N, T - size + 1)
        return scores.masked_fill(_tokens_of(windows[..., -1].masked_fill(~again, -1), scores), -torch.inf)


@dataclass(frozen=True)
class NeverThese:
    """Tokens that are not written, however likely; `only_at`: by the text's token of that number alone, from 0."""

    tokens: Tensor
    only_at: int | None = None

    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        if self.only_at is not None and n_written != self.only_at:
            return scores
        return scores.index_fill(-1, self.tokens, -torch.inf)


@dataclass(frozen=True)
class NoEarlyEnd:
    """No text ends before it has so many tokens; only those that were written count, or with `of_all` all."""

    ends: Tensor
    least: int
    of_all: bool = False

    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        if not self.of_all:
            return scores.index_fill(-1, self.ends, -torch.inf) if n_written < self.least else scores
        is_short = (texts >= 0).sum(1, keepdim=True) < self.least  # (N, 1)
        return torch.where(is_short, scores.index_fill(-1, self.ends, -torch.inf), scores)


def _tokens_of(texts: Tensor, scores: Tensor) -> Tensor:
    """(N, V) booleans, True for the tokens that are in (N, T) ids; -1 is none."""
    n_tokens = scores.size(1)
    places = texts.where(texts >= 0, n_tokens)  # a column that nobody sees
    return scores.new_zeros(len(texts), n_tokens + 1, dtype=torch.bool).scatter_(1, places, True)[:, :n_tokens]


def processors(how: Rules, model: DecodingModel, never: Collection[int] | None = None) -> list[LogitsProcessor]:
    """The rules for a model, in transformers' order: of `how` those that are given, the others as its configuration
    has them.

    never: tokens that are not written, whatever it says; None: those that it says.

    Raises:
        UserError: a token outside the vocabulary.
    """
    facts, device = model.facts, model.head_weight.device
    theirs, never = facts.rules, check_never(model, never)

    def ids(tokens: Sequence[int]) -> Tensor:
        return torch.tensor(tokens, device=device)

    penalty = theirs.repetition_penalty if how.repetition_penalty is None else how.repetition_penalty
    size = theirs.no_repeat_ngram_size if how.no_repeat_ngram_size is None else how.no_repeat_ngram_size
    least = theirs.min_new_tokens if how.min_new_tokens is None else how.min_new_tokens
    after_first = int(theirs.forced_first_id is not None)
    rules: list[LogitsProcessor] = []
    if penalty not in (None, 1):
        rules.append(RepetitionPenalty(penalty))
    if size:
        rules.append(NoRepeatedNgrams(size))
    if never:
        rules.append(NeverThese(ids(never)))
    if theirs.min_length and facts.ends:
        rules.append(NoEarlyEnd(ids(facts.ends), theirs.min_length, of_all=True))
    if least and facts.ends:
        rules.append(NoEarlyEnd(ids(facts.ends), least))
    if theirs.never_first_ids:
        rules.append(NeverThese(ids(theirs.never_first_ids), only_at=after_first))
    return rules


def check_never(model: DecodingModel, never: Collection[int] | None) -> list[int]:
    """The tokens that are not written, in order. UserError: one is outside the vocabulary."""
    facts = model.facts
    never = facts.never if never is None else never
    if outside := [token for token in never if not 0 <= token < facts.vocab_size]:
        raise UserError(f"never contains {outside[0]}, outside the vocabulary of {facts.vocab_size}")
    return sorted(set(never))


def only_mask(rules: Collection[LogitsProcessor]) -> bool:
    """Whether they leave the scores of what may be written as they are."""
    return not any(isinstance(rule, RepetitionPenalty) for rule in rules)


def forced_tokens(
    model: DecodingModel,
    limits: Sequence[int],
    prefix: Sequence[Sequence[int]] | None,
    never: Collection[int],
    *,
    with_last: bool = False,
) -> Tensor | None:
    """What must be written: (N, the longest of it) ids, -1 for a free choice; None: all is free.

    Args:
        model: what writes.
        limits: most tokens of each answer.
        prefix: what each answer begins with, none of `never` and no end; else with the token that the model forces.
        with_last: the last token within the limit is forced too, if the model says so.

    Raises:
        UserError: it is not one prefix a text, or one does not fit.
    """
    facts = model.facts
    first = [] if facts.rules.forced_first_id is None else [facts.rules.forced_first_id]
    if prefix is not None and len(prefix) != len(limits):
        raise UserError(f"{len(prefix)} prefixes for {len(limits)} sources: give one each, empty where none is wanted")
    for i, tokens in enumerate(prefix or ()):
        if len(tokens) >= limits[i]:
            raise UserError(
                f"prefix {i} has {len(tokens)} tokens, but its answer may have {limits[i]}, its end included"
            )
        if refused := {*never, *facts.ends} & set(tokens):
            raise UserError(f"prefix {i} contains the special id {min(refused)}")
    rows = [list(tokens) or first for tokens in prefix or [()] * len(limits)]
    if with_last and (last := facts.rules.forced_last_id) is not None:
        rows = [[*row, *[-1] * (limit - 1 - len(row)), last] for row, limit in zip(rows, limits, strict=True)]
    return pad_rows(rows, -1, device=model.head_weight.device)[0] if any(rows) else None
