"""What may be written next. Each rule is a class, a logits processor that works for every model and way of writing.

Shapes: N texts, T tokens, V vocabulary. A new rule is a class in `RULES`, and its option is a field of `Rules`.
"""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from transformer_zoo.config import Rules
from transformer_zoo.errors import UserError
from transformer_zoo.models import DecodingFacts, DecodingModel, pad_rows


class Wanted(NamedTuple):
    """What rules are made from: the user's options, the model's properties, and the tokens that are not written."""

    how: Rules
    facts: DecodingFacts
    never: Sequence[int]
    device: torch.device

    def value(self, option: str) -> Any:
        """The value of a rule's option: the user's, otherwise the model's; None if neither gives one."""
        if option == "never_ids":
            return self.never
        given = getattr(self.how, option, None)
        return getattr(self.facts.rules, option, None) if given is None else given

    def ids(self, tokens: Sequence[int]) -> Tensor:
        """Tokens on the device, (n,)."""
        return torch.tensor(tokens, dtype=torch.int64, device=self.device)


class LogitsProcessor:
    """Base of all rules.

    `option` is the field of `Rules` or of a model's `RulesSpec` that sets the rule. `neutral` is a value that changes
    nothing, as None, 0 and empty do. `only_masks`: the rule does not change the scores of what may be written.
    >>> class NoFive(LogitsProcessor):
    ...     def __call__(self, scores, texts, n_written): return scores.index_fill(-1, torch.tensor(5), -torch.inf)
    >>> 5 in generate_plainly(gpt, [5], rules=[NoFive()], max_new_tokens=9)
    False
    """

    option: ClassVar[str]
    neutral: ClassVar[Any] = None
    only_masks: ClassVar[bool] = True

    @classmethod
    def of(cls, value: Any, wanted: Wanted) -> Self:
        """The rule with this value of its option."""
        return cls(value)  # type: ignore[call-arg]

    @abstractmethod
    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        """The scores, with -inf for tokens that may not follow.

        Args:
            scores: (N, V), logits, or in a beam log-probabilities.
            texts: (N, T), the tokens so far, -1 before the first of each text.
            n_written: how many of them were written, the same number for all.
        """


@dataclass(frozen=True)
class RepetitionPenalty(LogitsProcessor):
    """Tokens that were there before become less likely (Keskar et al. 2019, "CTRL", section 4.1).

    Positive scores are divided by the penalty and negative ones multiplied by it, so both fall.
    """

    option, neutral, only_masks = "repetition_penalty", 1, False
    penalty: float

    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        seen = _tokens_of(texts, scores)
        return torch.where(seen, torch.where(scores > 0, scores / self.penalty, scores * self.penalty), scores)


@dataclass(frozen=True)
class NoRepeatedNgrams(LogitsProcessor):
    """No run of `size` tokens is written that the text already has (Paulus et al. 2018, section 2.5)."""

    option = "no_repeat_ngram_size"
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
class NeverThese(LogitsProcessor):
    """These tokens are not written, however likely they are."""

    option = "never_ids"
    tokens: Tensor

    @classmethod
    def of(cls, value: Any, wanted: Wanted) -> Self:
        return cls(wanted.ids(value))

    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        return scores.index_fill(-1, self.tokens, -torch.inf)


@dataclass(frozen=True)
class MinLength(LogitsProcessor):
    """No text ends before it has this many tokens in all."""

    option = "min_length"
    ends: Tensor
    least: int

    @classmethod
    def of(cls, value: Any, wanted: Wanted) -> Self:
        return cls(wanted.ids(wanted.facts.ends), value)

    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        is_short = (texts >= 0).sum(1, keepdim=True) < self.least  # (N, 1)
        return torch.where(is_short, scores.index_fill(-1, self.ends, -torch.inf), scores)


@dataclass(frozen=True)
class MinNewTokens(MinLength):
    """No text ends before this many tokens are written."""

    option = "min_new_tokens"

    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        return scores.index_fill(-1, self.ends, -torch.inf) if n_written < self.least else scores


@dataclass(frozen=True)
class NeverFirst(LogitsProcessor):
    """These tokens are not written first; after a forced token, not first after it."""

    option = "never_first_ids"
    tokens: Tensor
    first: int

    @classmethod
    def of(cls, value: Any, wanted: Wanted) -> Self:
        return cls(wanted.ids(value), int(wanted.facts.rules.forced_first_id is not None))

    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        return scores.index_fill(-1, self.tokens, -torch.inf) if n_written == self.first else scores


def _tokens_of(texts: Tensor, scores: Tensor) -> Tensor:
    """(N, V) booleans, True for the tokens among (N, T) ids; -1 means no token."""
    n_tokens = scores.size(1)
    places = texts.where(texts >= 0, n_tokens)  # a column that is cut off again
    return scores.new_zeros(len(texts), n_tokens + 1, dtype=torch.bool).scatter_(1, places, True)[:, :n_tokens]


RULES: tuple[type[LogitsProcessor], ...] = (
    RepetitionPenalty, NoRepeatedNgrams, NeverThese, MinLength, MinNewTokens, NeverFirst,
)  # fmt: skip
"""All rules, in transformers' order."""


def processors(how: Rules, model: DecodingModel, never: Collection[int] | None = None) -> list[LogitsProcessor]:
    """The rules for a model: those given in `how`, and otherwise those of its configuration.

    never: tokens that are not written, whatever the configuration says; None: those that it says.
    >>> processors(Sampling(repetition_penalty=1.2), gpt)
    [RepetitionPenalty(penalty=1.2)]

    Raises:
        UserError: a token is outside the vocabulary.
    """
    wanted = Wanted(how, model.facts, check_never(model, never), model.head_weight.device)
    values = ((kind, wanted.value(kind.option)) for kind in RULES)
    return [kind.of(value, wanted) for kind, value in values if value and value != kind.neutral]


def check_never(model: DecodingModel, never: Collection[int] | None) -> list[int]:
    """The tokens that are not written, in order. UserError: one is outside the vocabulary."""
    facts = model.facts
    never = facts.never if never is None else never
    if outside := [token for token in never if not 0 <= token < facts.vocab_size]:
        raise UserError(f"never contains {outside[0]}, outside the vocabulary of {facts.vocab_size}")
    return sorted(set(never))


def only_mask(rules: Collection[LogitsProcessor]) -> bool:
    """Whether none of the rules changes the scores of what may be written."""
    return all(rule.only_masks for rule in rules)


def forced_tokens(
    model: DecodingModel,
    limits: Sequence[int],
    prefix: Sequence[Sequence[int]] | None,
    never: Collection[int],
    *,
    with_last: bool = False,
) -> Tensor | None:
    """The tokens that must be written: (N, longest run of them) ids, -1 for a free choice; None: all choices are free.

    Args:
        model: the model that writes.
        limits: the largest number of tokens of each answer.
        prefix: the beginning of each answer, without tokens of `never` or an end; None: the token that the model
            forces.
        with_last: force the last token within the limit too, if the model says so.

    Raises:
        UserError: there is not exactly one prefix for each text, or one does not fit.
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
        if tokens and not 0 <= min(tokens) <= max(tokens) < facts.vocab_size:
            raise UserError(f"prefix {i} has a token outside the vocabulary of {facts.vocab_size}")
    rows = [list(tokens) or first for tokens in prefix or [()] * len(limits)]
    if with_last and (last := facts.forced_last_id) is not None:
        rows = [[*row, *[-1] * (limit - 1 - len(row)), last] for row, limit in zip(rows, limits, strict=True)]
    return pad_rows(rows, -1, device=model.head_weight.device)[0] if any(rows) else None
