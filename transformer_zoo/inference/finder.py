"""Translations of pieces of lines: batched by length, searched or drawn, different texts, the most likely first."""

import functools
import math
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace

from transformer_zoo.config import BeamSearch, Rules, Sampling
from transformer_zoo.inference.beam import beam_search
from transformer_zoo.inference.codec import Codec, TranslationCodec
from transformer_zoo.inference.engine import Steps
from transformer_zoo.inference.generation import generate_stream
from transformer_zoo.inference.modes import evaluating
from transformer_zoo.inference.notes import Notes
from transformer_zoo.inference.pieces import Batching, Line, Piece, Translation, join, plan_batches, ranks
from transformer_zoo.inference.scoring import score_ids
from transformer_zoo.inference.search import Hypothesis
from transformer_zoo.inference.speculation import Speculation
from transformer_zoo.inference.text import before_stop
from transformer_zoo.models import DecodingModel

# The widest beam that is tried: its hypotheses are compared with each other's tokens.
WIDEST = 1024


@dataclass(frozen=True)
class Finder:
    """Finds `n_best` different translations of each piece."""

    model: DecodingModel
    codec: Codec
    forced: list[int]  # of the target of a line's first piece
    how: BeamSearch
    scored: bool
    sampling: Sampling | None  # None: it is searched
    seed: int | None  # of the first line
    never: Collection[int] | None
    speculation: Speculation
    batching: Batching

    def find(self, pieces: list[Piece]) -> Iterator[None]:
        """Fill in the translations; yields whenever some pieces are done. If texts repeat, the beam is doubled."""
        how = self.first_how
        while pieces:
            scarce = []
            for batch in plan_batches(pieces, how, self.batching):
                scarce += self.settle(batch, self._search(batch, how), how)
                yield
            how, pieces = wider(how), scarce

    @property
    def first_how(self) -> BeamSearch:
        """How pieces are searched at first."""
        return replace(self.how, beam=max(self.how.beam, self.how.n_best))

    def settle(self, pieces: Sequence[Piece], found: Sequence[Sequence[Hypothesis]], how: BeamSearch) -> list[Piece]:
        """Fill in the translations found this way; returns the pieces with repeated texts, for which the beam must be
        `wider`."""
        for piece, hypotheses in zip(pieces, found, strict=True):
            piece.found = self._different(piece, hypotheses)
            enough = len(piece.found) == self.how.n_best or len(hypotheses) < how.n_best
            piece.is_done = enough or how.beam >= WIDEST
        if self.scored:
            self._score([piece for piece in pieces if piece.is_done])
        return [piece for piece in pieces if not piece.is_done]

    def prefix_of(self, piece: Piece) -> list[int]:
        """The prefix of a piece's translation."""
        return self.forced if piece.place == 0 else self.codec.start

    def _search(self, batch: Sequence[Piece], how: BeamSearch) -> list[list[Hypothesis]]:
        given = [piece.ids for piece in batch]
        prefix = [*map(self.prefix_of, batch)] if self.forced else None
        if self.sampling is not None or (how.beam == 1 and not self.scored):
            return [[one] for one in self._write(batch, given, prefix)]
        with evaluating(self.model, self.batching.dtype):
            return beam_search(self.model, given, how, prefix=prefix, never=self.never, stop=self.stop)

    @property
    def stop(self) -> Callable[[list[int]], bool] | None:
        """Whether an answer of these tokens has a stop string of the model's configuration."""
        stops = [stop.encode() for stop in self.model.facts.rules.stop_strings or ()]
        return (lambda tokens: any(stop in self.codec.target.decode_bytes(tokens) for stop in stops)) if stops else None

    def _write(
        self, batch: Sequence[Piece], given: list[list[int]], prefix: list[list[int]] | None
    ) -> Iterator[Hypothesis]:
        """Translations that are drawn, or written at temperature 0, as by a beam of 1. They have no
        log-probabilities."""
        how, facts = self.how, self.model.facts
        rules = {field.name: getattr(how, field.name) for field in fields(Rules)}
        limits = [min(len(ids) + how.max_extra, how.max_length or sys.maxsize) for ids in given]
        stop = self.stop
        tokens, ends = [list[int]() for _ in given], dict[int, str | None]()
        for row, token, end in generate_stream(
            self.model,
            given,
            self.sampling or Sampling(temperature=0, **rules),
            max_new_tokens=limits,
            seed=None if self.seed is None else [self.seed + piece.draw for piece in batch],
            never=self.never,
            prefix=prefix,
            stop=None if stop is None else lambda row, token: stop([*tokens[row], token]),
            speculation=self.speculation,
            steps=Steps(static=False, dtype=self.batching.dtype),
        ):
            tokens[row] += [] if token in facts.ends else [token]
            ends[row] = end
        forced = facts.forced_last_id is not None
        for row, (written, limit) in enumerate(zip(tokens, limits, strict=True)):
            ended = ends[row] == "stop" or (ends[row] == "eos" and not (forced and len(written) + 1 == limit))
            yield Hypothesis(written, math.nan, math.nan, ended)

    def _different(self, piece: Piece, hypotheses: Sequence[Hypothesis]) -> list[Translation]:
        """The first `n_best` texts that differ from all before them in more than spelling or spaces."""
        found, stops = dict[str, Translation](), self.model.facts.rules.stop_strings or ()
        for one in hypotheses:
            text = " ".join(before_stop(self.codec.decode(piece.ids, one.tokens), stops).splitlines())
            tokens = tuple(one.tokens)
            new = Translation(text, one.log_prob, one.log_prob, one.score, is_cut=not one.ended, tokens=tokens)
            found.setdefault(" ".join(text.split()), new)
        return list(found.values())[: self.how.n_best]

    def _score(self, pieces: Sequence[Piece]) -> None:
        """Give each translation the log-probability that `score` computes, and sort by it."""
        if not isinstance(self.codec, TranslationCodec):
            return
        texts = [(piece.ids, one.text) for piece in pieces for one in piece.found]
        rows = iter(score_ids(self.model, self.codec.answers(texts), dtype=self.batching.dtype))
        given = len(self.codec.start)
        for piece in pieces:
            scored = [replace(one, log_prob=math.fsum(next(rows)[given:])) for one in piece.found]
            piece.found = sorted(scored, key=lambda one: (math.isnan(one.log_prob), -one.log_prob))

    def join(self, line: Line, notes: Notes) -> list[Translation]:
        """The pieces' translations joined, rank by rank. If a piece has fewer, its last one is used again."""
        if not line.pieces:
            return [Translation("", 0.0, 0.0, 0.0)]
        joined = [functools.reduce(join, parts) for parts in ranks([piece.found for piece in line.pieces])]
        if joined[0].is_cut:
            notes.add(
                line.number,
                f"translated up to the length limit, perhaps not to the end; max_extra ({self.how.max_extra} tokens "
                "more than the source has) raises it",
            )
        if len(joined) < self.how.n_best:
            notes.add(line.number, f"fewer than {self.how.n_best} different translations; more were not to be found")
        return joined


def wider(how: BeamSearch) -> BeamSearch:
    """The same search with a beam of twice the width."""
    return replace(how, beam=2 * how.beam, n_best=2 * how.beam)
