"""Lines of text in, answers out: tokenized, sorted by length, batched, searched, put back in order."""

import functools
import math
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice

from transformer_zoo.characters import is_blank
from transformer_zoo.config import BeamSearch, Rules, Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.inference.beam import beam_search
from transformer_zoo.inference.codec import Codec, Tokenizers, TranslationCodec, codec_of
from transformer_zoo.inference.engine import Steps
from transformer_zoo.inference.generation import generate_stream
from transformer_zoo.inference.modes import evaluating
from transformer_zoo.inference.notes import Notes
from transformer_zoo.inference.pieces import Batching, Line, Piece, Translation, join, plan_batches
from transformer_zoo.inference.scoring import score_ids
from transformer_zoo.inference.search import Hypothesis
from transformer_zoo.inference.speculation import Speculation
from transformer_zoo.inference.splitting import is_long
from transformer_zoo.inference.text import before_stop
from transformer_zoo.models import DecodingModel, check_decoding
from transformer_zoo.tokenizers.translation import unwritable_characters


def translate(
    model: DecodingModel,
    tokenizer: Tokenizers,
    lines: Iterable[str],
    how: BeamSearch = BeamSearch(),
    *,
    prefix: str = "",
    never: Collection[int] | None = None,
    max_source_tokens: int | None = None,
    speculation: Speculation = Speculation(),
    batching: Batching = Batching(),
    name: str = "",
) -> Iterator[str]:
    """The best translation of each line, in order, on the device of the model; see `translate_n_best`.
    >>> [one, other] = translate(translator, pair, ["ja", "nein"], BeamSearch(beam=2, max_extra=10))
    """
    found = translate_n_best(
        model,
        tokenizer,
        lines,
        replace(how, n_best=1),
        scored=False,
        prefix=prefix,
        never=never,
        max_source_tokens=max_source_tokens,
        speculation=speculation,
        batching=batching,
        name=name,
    )
    return (best[0].text for best in found)


def translate_n_best(
    model: DecodingModel,
    tokenizer: Tokenizers,
    lines: Iterable[str],
    how: BeamSearch = BeamSearch(),
    *,
    scored: bool = True,
    prefix: str = "",
    never: Collection[int] | None = None,
    max_source_tokens: int | None = None,
    speculation: Speculation = Speculation(),
    batching: Batching = Batching(),
    name: str = "",
) -> Iterator[list[Translation]]:
    """For each line, in order, its `n_best` translations as soon as the batches they are in are done: different texts,
    those of the highest `log_prob` first. For a decoder-only model lines are prompts, and continuations are found.

    A line of nothing but space gives one empty translation. A line of more than 1.5 times `max_source_tokens` is cut at
    the ends of sentences into pieces of no more than those, and their translations are joined by a space. A sentence is
    cut only where the model cannot take it: what it means would be lost. Warnings count such lines, those whose
    translations `max_extra` ended, and those that have fewer different ones.
    >>> [[best, second]] = translate_n_best(translator, pair, ["ja"], BeamSearch(n_best=2, max_extra=10))

    Args:
        model, tokenizer: as `load_run` gives them. The model is put into evaluation mode while it is used.
        lines: text, one sentence each.
        how: how translations are searched. Where fewer than `n_best` of the beam's hypotheses are different texts, the
            beam is widened for that line until there are so many different ones.
        scored: with log-probabilities and scores.
        prefix: every translation begins with this text.
        never: as for `beam_search`.
        max_source_tokens: the longest source in training, eos included, `Run.max_source_tokens`: models leave things
            out of what is much longer. None: the model's `max_seq_len`.
        speculation: where one line is translated at a time, by a beam of 1 and without scores.
        batching: how lines become batches.
        name: of the text, for warnings.

    Raises:
        UserError: an argument out of range, text that is not Unicode, or a prefix with characters that the vocabulary
            does not have.
    """
    check_decoding(model, "translate")
    trained = model.config.max_seq_len if max_source_tokens is None else max_source_tokens
    if trained < 1:
        raise UserError(f"max_source_tokens {trained} must be at least 1")
    if how.n_best > _WIDEST:
        raise UserError(f"n_best {how.n_best} is more than {_WIDEST}, the widest beam that is searched with")
    codec = codec_of(model, tokenizer)
    if missing := unwritable_characters(codec.target, prefix):
        raise UserError(f"prefix {prefix!r}: the model's vocabulary has no {' '.join(map(repr, missing))}")
    [forced] = codec.target.encode_batch([prefix])
    if batching.batch_tokens is None:
        batching = replace(batching, batch_tokens=32_768 if model.head_weight.device.type == "cpu" else 262_144)
    finder = _Finder(model, codec, forced, how, scored, never, speculation, batching)
    return _translate(finder, lines, trained, Notes(name, at_once=batching.window == 1))


def _translate(finder: "_Finder", lines: Iterable[str], trained: int, notes: Notes) -> Iterator[list[Translation]]:
    source, read = iter(lines), 0
    while texts := list(islice(source, finder.batching.window)):
        chunk = _prepare(finder, texts, read + 1, trained, notes)
        read += len(texts)
        given = 0
        for _ in finder.find([piece for line in chunk for piece in line.pieces]):
            while given < len(chunk) and chunk[given].is_done:
                yield finder.join(chunk[given], notes)
                given += 1
        for line in chunk[given:]:  # empty ones, where there was no batch
            yield finder.join(line, notes)
    notes.warn(read)


def _prepare(finder: "_Finder", texts: Sequence[str], first: int, trained: int, notes: Notes) -> list[Line]:
    """Lines in pieces; none of an empty one. `first`: number of the first line; `trained`: as for `cut_line`."""
    facts, lines = finder.model.facts, list[Line]()
    holds = min(facts.context, max(finder.model.config.max_seq_len, trained))
    texts = ["" if is_blank(text) else text for text in texts]
    for number, (ids, cut) in enumerate(finder.codec.cut(texts, trained=trained, holds=holds), first):
        if cut and facts.has_source and is_long(len(ids), trained=trained, holds=holds):
            how = "in pieces" if len(cut) > 1 else "as a whole, which is one sentence"
            notes.add(number, f"much longer than max_source_tokens ({min(trained, holds)}); translated {how}")
        lines.append(Line(number, [Piece(piece, i == 0) for i, piece in enumerate(cut)]))
    return lines


# The widest beam that is tried: its hypotheses are compared with each other's tokens.
_WIDEST = 1024


@dataclass(frozen=True)
class _Finder:
    """Finds translations of pieces: `n_best` different ones."""

    model: DecodingModel
    codec: Codec
    forced: list[int]  # of the target of a line's first piece
    how: BeamSearch
    scored: bool
    never: Collection[int] | None
    speculation: Speculation
    batching: Batching

    def find(self, pieces: list[Piece]) -> Iterator[None]:
        """Fills in what is found; yields whenever some pieces are done. Where texts come twice, the beam is doubled."""
        how = replace(self.how, beam=max(self.how.beam, self.how.n_best))
        while pieces:
            scarce = []
            for batch in plan_batches(pieces, how, self.batching):
                for piece, hypotheses in zip(batch, self._search(batch, how), strict=True):
                    piece.found = self._different(piece, hypotheses)
                    enough = len(piece.found) == self.how.n_best or len(hypotheses) < how.n_best
                    piece.is_done = enough or how.beam >= _WIDEST
                scarce += [piece for piece in batch if not piece.is_done]
                if self.scored:
                    self._score([piece for piece in batch if piece.is_done])
                yield
            how = replace(how, beam=2 * how.beam, n_best=2 * how.beam)
            pieces = scarce

    def _search(self, batch: Sequence[Piece], how: BeamSearch) -> list[list[Hypothesis]]:
        given, start = [piece.ids for piece in batch], self.codec.start
        prefix = [self.forced if piece.is_first else start for piece in batch] if self.forced else None
        if how.beam == 1 and not self.scored:
            return [[one] for one in self._write(given, prefix)]
        with evaluating(self.model, self.batching.dtype):
            return beam_search(self.model, given, how, prefix=prefix, never=self.never, stop=self.stop)

    @property
    def stop(self) -> Callable[[list[int]], bool] | None:
        """Whether an answer of these tokens has a stop string of the model's configuration."""
        stops = [stop.encode() for stop in self.model.facts.rules.stop_strings or ()]
        return (lambda tokens: any(stop in self.codec.target.decode_bytes(tokens) for stop in stops)) if stops else None

    def _write(self, given: list[list[int]], prefix: list[list[int]] | None) -> Iterator[Hypothesis]:
        """What a beam of 1 finds, which is what is written at temperature 0; without log-probabilities."""
        how, facts = self.how, self.model.facts
        rules = {field.name: getattr(how, field.name) for field in fields(Rules)}
        limits = [min(len(ids) + how.max_extra, how.max_length or sys.maxsize) for ids in given]
        stop = self.stop
        tokens, ends = [list[int]() for _ in given], dict[int, str | None]()
        for row, token, end in generate_stream(
            self.model,
            given,
            Sampling(temperature=0, **rules),
            max_new_tokens=limits,
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
        """The first `n_best` texts that are more than other spellings, or other spaces, of one before."""
        found, stops = dict[str, Translation](), self.model.facts.rules.stop_strings or ()
        for one in hypotheses:
            text = " ".join(before_stop(self.codec.decode(piece.ids, one.tokens), stops).splitlines())
            new = Translation(text, one.log_prob, one.log_prob, one.score, is_cut=not one.ended)
            found.setdefault(" ".join(text.split()), new)
        return list(found.values())[: self.how.n_best]

    def _score(self, pieces: Sequence[Piece]) -> None:
        """Give each translation the log-probability that `score` gives it, and sort by it."""
        if not isinstance(self.codec, TranslationCodec):
            return
        texts = [(piece.ids, one.text) for piece in pieces for one in piece.found]
        rows = iter(score_ids(self.model, self.codec.answers(texts), dtype=self.batching.dtype))
        given = len(self.codec.start)
        for piece in pieces:
            scored = [replace(one, log_prob=math.fsum(next(rows)[given:])) for one in piece.found]
            piece.found = sorted(scored, key=lambda one: (math.isnan(one.log_prob), -one.log_prob))

    def join(self, line: Line, notes: Notes) -> list[Translation]:
        """Rank by rank, the pieces' translations in a row. Where a piece has fewer, its last one stands in."""
        if not line.pieces:
            return [Translation("", 0.0, 0.0, 0.0)]
        n = max(len(piece.found) for piece in line.pieces)
        ranks = [[piece.found[min(rank, len(piece.found) - 1)] for piece in line.pieces] for rank in range(n)]
        joined = [functools.reduce(join, parts) for parts in ranks]
        if joined[0].is_cut:
            notes.add(
                line.number,
                f"translated up to the length limit, perhaps not to the end; max_extra ({self.how.max_extra} tokens "
                "more than the source has) raises it",
            )
        if len(joined) < self.how.n_best:
            notes.add(line.number, f"fewer than {self.how.n_best} different translations; more were not to be found")
        return joined
