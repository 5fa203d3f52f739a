"""Lines that are translated side by side: they are gathered by length for some milliseconds, then searched."""

import time
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from transformer_zoo.config import BeamSearch
from transformer_zoo.errors import UserError
from transformer_zoo.inference import Hypothesis, Translation
from transformer_zoo.inference.finder import Finder, wider
from transformer_zoo.inference.notes import Notes
from transformer_zoo.inference.pieces import Line, Piece
from transformer_zoo.runs.paragraphs import put_back
from transformer_zoo.serving.beams import Beams
from transformer_zoo.serving.requests import Request

READ_AT_ONCE = 1024
"""Number of source tokens that are read between two steps of the search, padding included."""
BATCH_TOKENS = 32_768
"""Limit of the batch: lines x beam x longest answer stays within it, unless there is a single line."""


@dataclass
class Lines:
    """The lines of one request that are translated, and their texts, as `laid_out` returns them.

    turn: the last turn at which some of its lines joined.
    """

    request: Request[list[list[Translation]]]
    finder: Finder
    shown: list[list[str]]
    lines: list[Line]
    arrived: float = field(default_factory=time.monotonic)
    turn: int = 0

    def finish_if_done(self) -> None:
        """Return the translations, once all are there."""
        if all(line.is_done for line in self.lines):
            found = (self.finder.join(line, Notes()) for line in self.lines)
            self.request.finish([*put_back(found, deque(self.shown))], "done")


@dataclass
class Part:
    """A piece of a line, and the settings of its search; the beam widens if texts were found twice."""

    piece: Piece
    owner: Lines
    how: BeamSearch

    @property
    def key(self) -> Hashable:
        """Parts with the same key are searched side by side."""
        never = self.owner.finder.never
        return self.how, None if never is None else frozenset(never)

    @property
    def longest(self) -> int:
        """An estimate of the largest number of tokens of an answer."""
        return len(self.piece.ids) + self.how.max_extra


class Translating:
    """All lines that are translated, and those that wait.

    Args:
        most: number of pieces of lines at a time.
        gather: seconds for which a line waits for others while nothing is translated.
    """

    def __init__(self, most: int, gather: float) -> None:
        self.most, self.gather = most, gather
        self.waiting: list[Part] = []
        self.beams: dict[Hashable, Beams[Part]] = {}
        self.turn = self.passed = 0  # passed: number of steps since some joined

    def add(self, lines: Lines) -> None:
        """Let them wait from now on."""
        how = lines.finder.first_how
        self.waiting += [Part(piece, lines, how) for line in lines.lines for piece in line.pieces]
        lines.finish_if_done()

    def due(self) -> float | None:
        """Seconds until there is something to do; None: nothing is waiting."""
        if self.beams:
            return 0.0
        return max(0.0, self.waiting[0].owner.arrived + self.gather - time.monotonic()) if self.waiting else None

    def advance(self) -> None:
        """Take one step of the search, after some waiting lines have joined it."""
        self.waiting = [part for part in self.waiting if not part.owner.request.done()]
        for beams in self.beams.values():
            beams.keep([row for row, part in enumerate(beams.owners) if not part.owner.request.done()])
        self.passed += 1
        if self.waiting and self.due() == 0.0 and self._is_time():
            self._join()
        for beams in [*self.beams.values()]:
            try:
                found = beams.step()
            except Exception as error:
                self._fail(beams.owners, error)
                beams.owners = []
            else:
                self._take(found)
        self.beams = {key: beams for key, beams in self.beams.items() if beams.owners}

    def fail(self, error: Exception) -> None:
        """Everything in the search has failed."""
        self._fail([part for beams in self.beams.values() for part in beams.owners], error)
        self.beams = {}

    def _is_time(self) -> bool:
        """Whether waiting lines may join: if there are several, or at every other step, because reading them costs a
        step."""
        return not self.beams or self.passed > 1 or 4 * len(self.waiting) >= self.most

    def _join(self) -> None:
        if not (parts := [*self._next()]):
            return
        self.waiting = [part for part in self.waiting if all(part is not one for one in parts)]
        finder, key = parts[0].owner.finder, parts[0].key
        self.turn, self.passed = self.turn + 1, 0
        for part in parts:
            part.owner.request.is_started, part.owner.turn = True, self.turn
        beams = self.beams.get(key) or Beams(
            finder.model, parts[0].how, self.most, never=finder.never, stop=finder.stop
        )
        prefix = [part.owner.finder.prefix_of(part.piece) for part in parts]
        try:
            beams.join(finder.model, [part.piece.ids for part in parts], prefix, parts)
        except Exception as error:
            self._fail(parts, error)
        else:
            self.beams[key] = beams

    def _next(self) -> Iterator[Part]:
        """The next lines to join: the longest-waiting line of the request from which none has joined for longest, and
        lines of similar length as far as there is space."""
        first = min(self.waiting, key=lambda part: part.owner.turn)
        running = [(len(beams.owners), beams.how.beam * max(beams.limits)) for beams in self.beams.values()]
        free = self.most - sum(n for n, _ in running)
        room = BATCH_TOKENS - sum(n * tokens for n, tokens in running)
        model, key, length = first.owner.finder.model, first.key, len(first.piece.ids)
        alike = [one for one in self.waiting if one.owner.finder.model is model and one.key == key]
        longest = widest = 0
        for n, part in enumerate(sorted(alike, key=lambda one: abs(len(one.piece.ids) - length)), start=1):
            longest, widest = max(longest, len(part.piece.ids)), max(widest, part.longest)
            is_alone = n == 1 and not running
            fits = n * longest <= READ_AT_ONCE and n * part.how.beam * widest <= room
            if n > free or not (is_alone or fits):
                return
            yield part

    def _take(self, found: list[tuple[Part, list[Hypothesis]]]) -> None:
        for part, hypotheses in found:
            try:
                self._settle(part, hypotheses)
            except Exception as error:
                self._fail([part], error)

    def _settle(self, part: Part, hypotheses: list[Hypothesis]) -> None:
        """Store what was found for one piece, or search once more with a wider beam."""
        owner = part.owner
        if not hypotheses:
            raise UserError("the model's logits are not finite, or no token may follow by all the rules")
        owner.request.usage.completion_tokens += len(hypotheses[0].tokens)
        if owner.finder.settle([part.piece], [hypotheses], part.how):
            self.waiting.insert(0, Part(part.piece, owner, wider(part.how)))
        else:
            owner.finish_if_done()

    @staticmethod
    def _fail(parts: list[Part], error: Exception) -> None:
        for part in parts:
            part.owner.request.fail(error)
