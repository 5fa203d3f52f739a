"""Writing: tokens in, tokens out, many texts at once, with any model that decodes."""

import operator
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from transformer_zoo.config import Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.inference.engine import Engine, Steps
from transformer_zoo.inference.modes import evaluating
from transformer_zoo.inference.packing import check_draft
from transformer_zoo.inference.rules import check_never, forced_tokens, only_mask, processors
from transformer_zoo.inference.sampling import NOT_FINITE, Chooser, generators_of
from transformer_zoo.inference.speculation import Guesser, Lookup, Speculation
from transformer_zoo.models import DecodingModel, check_decoding, pad_rows

SEEDS = 2**63
# Rows that have ended leave the batch once they are 1/16 of it: below that, moving rows costs more than it saves.
DROP_FRACTION = 16
End = Literal["eos", "stop", "length"]


class NewToken(NamedTuple):
    """The next token of row `row`; `end` says why it is the last one, if it is."""

    row: int
    token: int
    end: End | None = None


def generate(
    model: DecodingModel,
    prompts: Sequence[Sequence[int]] | Tensor,
    sampling: Sampling = Sampling(),
    *,
    max_new_tokens: int | Sequence[int] = 200,
    seed: int | Sequence[int] | None = None,
    never: Collection[int] | None = None,
    prefix: Sequence[Sequence[int]] | None = None,
    ignore_eos: bool = False,
    stop: Callable[[int, int], bool] | None = None,
    speculation: Speculation = Speculation(),
    steps: Steps = Steps(),
) -> list[list[int]]:
    """The continuation of each prompt, or the answer to each source, as token ids. Neither the prompt nor the
    end-of-text token is included. Arguments and errors are those of `generate_stream`.
    >>> [answer] = generate(tz.create_model("gpt-nano"), [[5, 7, 7]], tz.Sampling(temperature=0), max_new_tokens=4)
    """
    stream = generate_stream(
        model,
        prompts,
        sampling,
        max_new_tokens=max_new_tokens,
        seed=seed,
        never=never,
        prefix=prefix,
        ignore_eos=ignore_eos,
        stop=stop,
        speculation=speculation,
        steps=steps,
    )
    answers: list[list[int]] = [[] for _ in prompts]
    for row, token, end in stream:
        if end != "eos":
            answers[row].append(token)
    return answers


def generate_stream(
    model: DecodingModel,
    prompts: Sequence[Sequence[int]] | Tensor,
    sampling: Sampling = Sampling(),
    *,
    max_new_tokens: int | Sequence[int] = 200,
    seed: int | Sequence[int] | None = None,
    never: Collection[int] | None = None,
    prefix: Sequence[Sequence[int]] | None = None,
    ignore_eos: bool = False,
    stop: Callable[[int, int], bool] | None = None,
    speculation: Speculation = Speculation(),
    steps: Steps = Steps(),
) -> Iterator[NewToken]:
    """Tokens as soon as they are chosen: at each step one for every row that has not ended.

    The tokens of one row do not depend on the other rows. If prompt and answer are longer than `max_seq_len`, the model
    reads the last part of them, whatever its positions: see `Steps`.
    >>> [new.end for new in generate_stream(gpt, [[5, 7]], max_new_tokens=2)]
    [None, 'length']

    Args:
        model: a model in any mode; it is in evaluation mode while it is used.
        prompts: token ids, rows of different length or (B, T): texts to continue, or sources for an encoder-decoder,
            each with its end.
        sampling: how the next token is drawn.
        max_new_tokens: number of tokens of each row, at most.
        seed: row i draws with seed + i, or with the i-th seed of a list, so that it can be repeated alone. None:
            torch's generator gives another seed each time.
        never: tokens that are not written, however likely they are; None: those of the model's configuration.
        prefix: token ids that each answer begins with.
        ignore_eos: an end token is a token like any other, and does not end a row.
        stop: a function of row and token, called after each token; True ends the row.
        speculation: settings of speculative decoding.
        steps: how the steps are taken.

    Raises:
        UserError: an option is out of range, a draft belongs to another model or its weights have changed since, a
            prompt is empty or not a text of this model, or logits are not finite.
    """
    check_decoding(model, "generate")
    check_draft(model, speculation.draft)
    given = token_rows(prompts, model.config.vocab_size)
    seeds = _seeds(seed, len(given))
    texts, facts, device = [model.opening(row) for row in given], model.facts, model.head_weight.device
    limits = _limits(max_new_tokens, texts, facts.context if facts.has_source else None)
    never = check_never(model, never)
    rules = processors(sampling, model, never)
    longest = max((len(text) + n for text, n in zip(texts, limits, strict=True)), default=0)
    is_greedy = sampling.is_greedy and only_mask(rules)
    engine = Engine(model, given, longest, steps, draft=speculation.draft, is_greedy=is_greedy)
    forced = forced_tokens(model, limits, prefix, never, with_last=True)
    seen, _ = pad_rows(texts if rules else [[]] * len(texts), -1, left=True, device=device)
    chooser = Chooser(sampling, rules, generators_of(seeds, device), seen, forced)
    ends = frozenset() if ignore_eos else frozenset(facts.ends)
    return _Writing(engine, chooser, texts, limits, ends, stop, Lookup(speculation.lookup)).tokens()


class _Writing:
    """Rows that grow, token by token, until each has ended.

    Args:
        engine: computes the logits of the next tokens.
        chooser: chooses among them.
        rows: the openings; written tokens are appended to them.
        limits: the largest number of tokens of each answer.
        ends: tokens that end a row.
        stop: as for `generate_stream`.
        lookup: makes guesses.
    """

    def __init__(
        self,
        engine: Engine,
        chooser: Chooser,
        rows: list[list[int]],
        limits: Sequence[int],
        ends: Set[int],
        stop: Callable[[int, int], bool] | None,
        lookup: Lookup,
    ) -> None:
        self.engine, self.chooser, self.rows = engine, chooser, rows
        self.ends, self.stop = ends, stop
        self.limits = [len(row) + limit for row, limit in zip(rows, limits, strict=True)]
        self.batch = list(range(len(rows)))  # the rows that are read
        self.going = set(self.batch)  # those of them that have not ended
        draft = None if engine.draft_model is None else self._draft
        self.guesser = Guesser(lookup, draft) if draft is not None or lookup.longest else None

    def tokens(self) -> Iterator[NewToken]:
        """All tokens, as soon as they are chosen."""
        while self.going:
            for column in self._columns():
                for row, token in zip(self.batch, column, strict=True):
                    if row not in self.going:
                        continue
                    new = self._append(row, token)
                    yield new
                    if new.end is not None:
                        self.going.remove(row)
                if not self.going:
                    break
            self._keep()

    @torch.inference_mode()
    def _columns(self) -> Iterator[list[int]]:
        """The next tokens of the rows being read, B at a time, as many as are chosen before one of them must be looked
        at."""
        engine, choose = self.engine, self.chooser.choose
        rows = [self.rows[i] for i in self.batch]
        guess = []
        if self.guesser is not None and len(rows) == 1:
            guess = self.guesser.guess(rows[0], engine.room)
        missing = max(self.limits[i] - len(self.rows[i]) for i in self.going)
        exact = None if engine.scorer is None else engine.exact_logits
        with evaluating(engine.model, engine.dtype):
            logits = engine.read(rows, guess)  # (B, 1 + G, V)
            chosen = [choose(logits[:, 0], exact)]
            for _ in range(0 if guess else engine.ahead(missing - 1)):
                logits = engine.go_on(chosen[-1].clamp_min(0))  # (B, 1, V)
                chosen.append(choose(logits[:, 0], exact))
        yield from look(chosen)
        if self.guesser is not None and guess:
            yield from self._guessed(self.guesser, guess, logits)

    def _guessed(self, guesser: Guesser, guess: list[int], logits: Tensor) -> Iterator[list[int]]:
        """The tokens after the first chosen one, as far as the guess is right: logits (1, 1 + G, V)."""
        [row] = self.batch
        right, length = 0, len(self.rows[row]) - 1
        try:
            while right < len(guess) and self.rows[row][-1] == guess[right]:
                right += 1
                exact = None if self.engine.scorer is None else partial(self.engine.exact_logits, right)
                yield from look([self.chooser.choose(logits[:, right], exact)])
        finally:  # the text may end within the guess
            self.engine.drop(len(guess) - right)
            guesser.learn(self.rows[row][length:])

    def _append(self, row: int, token: int) -> NewToken:
        if token == NOT_FINITE:
            raise UserError(
                "the model's logits are not finite: its weights are damaged, or too narrow a dtype; or no token may "
                "follow by all the rules"
            )
        self.rows[row].append(token)
        if token in self.ends:
            return NewToken(row, token, "eos")
        if self.stop is not None and self.stop(row, token):
            return NewToken(row, token, "stop")
        return NewToken(row, token, "length" if len(self.rows[row]) == self.limits[row] else None)

    @torch.inference_mode()
    def _keep(self) -> None:
        """Remove rows that have ended from the batch, once there are enough. The last rows fill the gaps."""
        n_ended = len(self.batch) - len(self.going)
        if not self.going or n_ended < max(1, len(self.batch) // DROP_FRACTION):
            return
        kept = filling_gaps([row in self.going for row in self.batch])
        places = torch.tensor(kept, device=self.engine.device)
        self.engine.keep(kept, places)
        self.chooser.keep(kept, places)
        self.batch = [self.batch[place] for place in kept]

    def _draft(self, n: int) -> list[int]:
        """The continuation of the only row, drawn with the same noise as its next tokens."""
        return self.engine.draft(self.rows[self.batch[0]][-1], n, self.chooser.copied().choose)


def look(chosen: Sequence[Tensor]) -> list[list[int]]:
    """Wait for tokens, (B,) each time."""
    columns: list[list[int]] = torch.stack(list(chosen)).tolist()
    return columns


def filling_gaps(kept: Sequence[bool]) -> list[int]:
    """Indices of the rows to keep, in an order that moves few: the last rows fill the gaps."""
    places = [place for place, is_kept in enumerate(kept) if is_kept]
    rest = [place for place in places if place >= len(places)]
    return [place if kept[place] else rest.pop() for place in range(len(places))]


def token_rows(prompts: Sequence[Sequence[int]] | Tensor, vocab_size: int) -> list[list[int]]:
    """Rows of token ids. UserError: they are not rows of ids, one is empty, or one has a token outside the
    vocabulary."""
    given = prompts.tolist() if isinstance(prompts, Tensor) else prompts
    try:
        if any(isinstance(token, bool) for row in given for token in row):
            raise TypeError
        rows = [[operator.index(token) for token in row] for row in given]
    except TypeError:  # a row that is a number, or a token that is not one
        raise UserError("prompts are rows of token ids, such as [[5, 7, 7], [2]]") from None
    for number, row in enumerate(rows, start=1):
        if not row:
            raise UserError(f"prompt {number} is empty: begin with a token, such as the end of the text before")
        if not 0 <= min(row) <= max(row) < vocab_size:
            raise UserError(f"prompt {number} has a token outside the vocabulary of {vocab_size}")
    return rows


def _limits(wanted: int | Sequence[int], texts: Sequence[Sequence[int]], context: int | None) -> list[int]:
    """Largest number of tokens of each answer: as wanted, but no more than the context holds if texts may not outgrow
    it."""
    limits = [wanted] * len(texts) if isinstance(wanted, int) else list(wanted)
    if min(limits, default=1) < 1:
        raise UserError(f"max_new_tokens {min(limits)} must be at least 1")
    if context is None:
        return limits
    return [min(limit, context + 1 - len(text)) for limit, text in zip(limits, texts, strict=True)]


def _seeds(seed: int | Sequence[int] | None, n: int) -> list[int]:
    """The seeds of n rows. UserError: the given one is out of range."""
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    elif isinstance(seed, int) and not 0 <= seed < SEEDS:
        raise UserError(f"seed {seed} must be from 0 to 2^63 - 1")
    rows = [seed + i for i in range(n)] if isinstance(seed, int) else seed
    return [row % SEEDS for row in rows]
