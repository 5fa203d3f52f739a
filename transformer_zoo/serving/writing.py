"""Texts that are written side by side, even if they began at different times: rows join and leave at each step.

Shapes: B rows that are written, T tokens of the longest prompt, V vocabulary.
"""

from collections import deque
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.inference.generation import End, filling_gaps
from transformer_zoo.inference.sampling import NOT_FINITE, Chooser
from transformer_zoo.inference.speculation import LONGEST_DRAFT, Guesser, Lookup
from transformer_zoo.inference.text import TextStream
from transformer_zoo.models import DecodingModel, SharedCache, pad_rows
from transformer_zoo.serving.requests import Event, Request

READ_AT_ONCE = 128
"""Number of prompt tokens that are read between two steps of writing, padding included."""


class Written(NamedTuple):
    """An answer: its text, its tokens without the one that ended it, and the reason for its end.
    >>> writer.write("Once", max_new_tokens=5).result().end
    'length'
    """

    text: str
    tokens: list[int]
    end: End


@dataclass
class Row:
    """A text that is written.

    Args:
        request: the request it belongs to.
        given: the prompt or source.
        text: the ids that the model reads: the opening, and then the answer.
        limit: largest number of tokens of the answer.
        chooser: chooses the next token, for this row alone.
        stream: turns tokens into text.
        ends: tokens that end it.
        guesser: drafts tokens while the text is alone.
    """

    request: Request[Written]
    given: list[int]
    text: list[int]
    limit: int
    chooser: Chooser
    stream: TextStream
    ends: Set[int]
    guesser: Guesser | None = None
    parts: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def add(self, token: int) -> bool:
        """Take the next token; returns whether the text continues.

        Raises:
            UserError: it is not a token.
        """
        if token == NOT_FINITE:
            raise UserError(
                "the model's logits are not finite: its weights are damaged, or too narrow a dtype; or no token may "
                "follow by all the rules"
            )
        self.text.append(token)
        end: End | None = None
        if token in self.ends:
            end = "eos"
        else:
            self.tokens.append(token)
            self.request.usage.completion_tokens += 1
            is_stopped = self.stream.add(token)
            end = "stop" if is_stopped else "length" if len(self.text) == self.limit else None
        self.parts.append(self.stream.take(last=end is not None))
        self.request.tell(Event(self.parts[-1], () if end == "eos" else (token,), end))
        if end is not None:
            self.request.finish(Written("".join(self.parts), self.tokens, end), end)
        return end is None


class Prefill:
    """Prompts that are read side by side, some tokens of each at a time."""

    def __init__(self, model: DecodingModel, rows: Sequence[Row]) -> None:
        self.model, self.rows, self.done = model, list(rows), 0
        self.ids, self.mask = pad_rows([row.text for row in rows], 0, left=True, device=model.head_weight.device)
        self.positions = None if self.mask is None else (self.mask.cumsum(1) - 1).clamp_min(0)  # (B, T)
        self.cache = model.begin([row.given for row in rows], self.ids.size(1))

    def read(self, n_tokens: int) -> Tensor | None:
        """Read about this many tokens; returns the logits (B, V) once all are read."""
        now = slice(self.done, self.done + max(1, n_tokens // len(self.rows)))
        mask = None if self.mask is None else self.mask[:, : now.stop]
        positions = None if self.positions is None else self.positions[:, now]
        hidden = self.model.step(self.ids[:, now], self.cache, mask=mask, positions=positions)  # (B, n, D)
        self.done = now.stop
        return self.model.logits(hidden[:, -1]).float() if self.done >= self.ids.size(1) else None


class Writing:
    """All texts that are written, and those that wait.

    Args:
        model: a model in evaluation mode.
        most: number of rows at a time; with 1, tokens are drafted, which helps only a single text.
        draft: `quantize(model)`, which drafts in addition to guesses from the text.
    """

    def __init__(self, model: DecodingModel, most: int, draft: DecodingModel | None = None) -> None:
        self.model, self.most, self.draft = model, most, draft
        self.waiting: deque[Row] = deque()
        self.joining: Prefill | None = None
        self.rows: list[Row] = []  # in the order of the cache
        self.cache: SharedCache | None = None

    def due(self) -> float | None:
        """Seconds until there is something to do; None: nothing is waiting."""
        return 0.0 if self.waiting or self.joining or self.rows else None

    def advance(self) -> None:
        """Take one step of all texts, and read as much of a prompt as allowed before the next step."""
        self._keep([not row.request.done() for row in self.rows])
        self._join()
        if self.most == 1 and self.rows:
            self._guess(self.rows[0])
        else:
            self._step()

    def fail(self, error: Exception) -> None:
        """The step of the texts that are written could not be made: they have failed."""
        for row in self.rows:
            row.request.fail(error)
        self.rows, self.cache = [], None

    def _join(self) -> None:
        """Read some of the next prompts; once they are read, their texts join those that are written."""
        rows = self._next() if self.joining is None else self.joining.rows
        if not rows:
            return
        try:
            self._read(rows)
        except Exception as error:  # the error is theirs alone
            self.joining = None
            for row in rows:
                row.request.fail(error)

    def _read(self, rows: list[Row]) -> None:
        self.joining = self.joining or Prefill(self.model, rows)
        if (logits := self.joining.read(READ_AT_ONCE)) is None:
            return
        cache, self.joining = self.joining.cache, None
        going = [not row.request.done() and self._add(row, logits[i : i + 1]) for i, row in enumerate(rows)]
        if not any(going):
            return
        kept = [i for i, goes_on in enumerate(going) if goes_on]
        cache.select(torch.tensor(kept, device=logits.device))
        self.cache = self.cache or SharedCache(cache, self.most)
        self.cache.join(cache, [len(rows[i].text) - 1 for i in kept])
        self.rows += [rows[i] for i in kept]

    def _next(self) -> list[Row]:
        """The next prompts to read: in their order, as long as the amount to read stays small."""
        rows, longest = list[Row](), 0
        while self.waiting and len(self.rows) + len(rows) < self.most:
            if self.waiting[0].request.done():
                self.waiting.popleft()
                continue
            longest = max(longest, len(self.waiting[0].text), len(self.waiting[0].given))
            if rows and (len(rows) + 1) * longest > READ_AT_ONCE:
                break
            rows.append(self.waiting.popleft())
            rows[-1].request.is_started = True
        return rows

    def _step(self) -> None:
        if not self.rows or self.cache is None:
            return
        self.cache.make_room(1)
        device, mask = self.model.head_weight.device, self.cache.mask(1)
        ids = torch.tensor([[row.text[-1]] for row in self.rows], device=device)
        positions = None if mask is None else torch.tensor([[len(row.text) - 1] for row in self.rows], device=device)
        hidden = self.model.step(ids, self.cache, mask=mask, positions=positions)  # (B, 1, D)
        logits = self.model.logits(hidden[:, -1]).float()  # (B, V)
        self._keep([self._add(row, logits[i : i + 1]) for i, row in enumerate(self.rows)])

    def _guess(self, row: Row) -> None:
        """The only row's next token, and the tokens after it as far as they are guessed right; this only saves time."""
        if self.cache is None:
            return
        self.cache.give_back()
        self.cache.make_room(1 + LONGEST_DRAFT)
        if row.guesser is None:
            draft = None if self.draft is None else partial(self._drafted, row)
            row.guesser = Guesser(Lookup(LONGEST_DRAFT), draft)
        length = len(row.text)
        guess = row.guesser.guess(row.text, min(LONGEST_DRAFT, row.limit - length - 1))
        ids = torch.tensor([[row.text[-1], *guess]], device=self.model.head_weight.device)
        logits = self.model.logits(self.model.step(ids, self.cache)).float()  # (1, 1 + G, V)
        right, goes_on = 0, self._add(row, logits[:, 0])
        while goes_on and right < len(guess) and row.text[-1] == guess[right]:
            right += 1
            goes_on = self._add(row, logits[:, right])
        self.cache.drop(len(guess) - right)
        row.guesser.learn(row.text[length:])
        self._keep([goes_on])

    def _drafted(self, row: Row, n: int) -> list[int]:
        """The draft's continuation of a row, drawn with the same noise as the row's next tokens."""
        assert self.draft is not None
        assert self.cache is not None
        chooser, guess = row.chooser.copied(), [row.text[-1]]
        for _ in range(n):
            ids = torch.tensor([guess[-1:]])
            hidden = self.draft.step(ids, self.cache)
            guess.append(max(int(chooser.choose(self.draft.logits(hidden[:, -1]).float())), 0))
        self.cache.drop(n)  # the draft's own keys and values
        return guess[1:]

    def _add(self, row: Row, logits: Tensor) -> bool:
        """Choose the row's next token from its logits (1, V); returns whether the text continues."""
        try:
            return row.add(int(row.chooser.choose(logits)))
        except Exception as error:  # such as an error in somebody's own rule, which concerns this row alone
            row.request.fail(error)
            return False

    def _keep(self, going: Sequence[bool]) -> None:
        """Remove the other texts from the batch."""
        if self.cache is None or all(going):
            return
        kept = filling_gaps(going)
        self.cache.select(torch.tensor(kept, dtype=torch.int64, device=self.model.head_weight.device))
        self.rows = [self.rows[place] for place in kept]
