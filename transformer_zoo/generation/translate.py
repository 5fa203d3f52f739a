"""Lines of text in, translations out: tokenized, sorted by length, batched, searched, put back in order."""

import functools
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypedDict, Unpack

import torch

from transformer_zoo.characters import is_blank
from transformer_zoo.errors import UserError
from transformer_zoo.generation.beam import Penalty, beam_search
from transformer_zoo.generation.inference import evaluating, pad_ids
from transformer_zoo.generation.notes import Notes
from transformer_zoo.generation.score import score_ids
from transformer_zoo.generation.search import Hypothesis
from transformer_zoo.generation.splitting import cut_line, is_long
from transformer_zoo.models import EncoderDecoder, check_encoder_decoder
from transformer_zoo.tokenizers.translation import TranslationTokenizer
from transformer_zoo.tokenizers.writable import unwritable_characters


@dataclass(frozen=True)
class Translation:
    """A translated line.

    Of a line that was cut, all numbers are the sums over its pieces; where scores were not asked for, they are nan.

    Args:
        text: The translation.
        log_prob: Its log-probability, as `score` gives it.
        search_log_prob: What the search counted: the log-probability of the pieces by which it got there, which need
            not be those that the tokenizer makes of the text, and of what follows a prefix only.
        search_score: That over the length penalty.
        is_cut: It, or a piece of it, did not end by itself within what `max_extra` allows; see `Hypothesis`.
    """

    text: str
    log_prob: float
    search_log_prob: float
    search_score: float
    is_cut: bool = False


class TranslateOptions(TypedDict, total=False):
    """What `translate` takes as `translate_n_best` does."""

    beam: int
    length_penalty: float
    penalty: Penalty
    max_extra: int
    prefix: str
    never: Collection[int] | None
    batch_tokens: int | None
    max_source_tokens: int | None
    window: int
    dtype: torch.dtype
    draft: EncoderDecoder | None
    name: str


def translate(
    model: EncoderDecoder, tokenizer: TranslationTokenizer, lines: Iterable[str], **options: Unpack[TranslateOptions]
) -> Iterator[str]:
    """The best translation of each line, in order, on the device of the model; see `translate_n_best`."""
    return (best[0].text for best in translate_n_best(model, tokenizer, lines, scored=False, **options))


def translate_n_best(
    model: EncoderDecoder,
    tokenizer: TranslationTokenizer,
    lines: Iterable[str],
    *,
    n_best: int = 1,
    scored: bool = True,
    beam: int = 5,
    length_penalty: float = 0.6,
    penalty: Penalty = "gnmt",
    max_extra: int = 50,
    prefix: str = "",
    never: Collection[int] | None = None,
    batch_tokens: int | None = None,
    max_source_tokens: int | None = None,
    window: int = 2048,
    dtype: torch.dtype = torch.float32,
    draft: EncoderDecoder | None = None,
    name: str = "",
) -> Iterator[list[Translation]]:
    """For each line, in order, its `n_best` translations as soon as the batches they are in are done: different texts,
    those of the highest `log_prob` first.

    A line of nothing but space gives one empty translation. A line of more than 1.5 times `max_source_tokens` is cut at
    the ends of sentences into pieces of no more than those, and their translations are joined by a space. A sentence is
    never cut, unless it is longer than the model can hold: `max_seq_len`, or what it was trained on if that is more. A
    line break in a translation becomes a space. How lines are batched changes the speed, not (in float32) the
    translations.

    At the end (with `window` 1 at once) warnings count, and give the numbers of, lines that were cut, translations that
    reached the length limit, and lines that have fewer than `n_best` translations.

    Args:
        model, tokenizer: as `load_run` gives them. The model is put into evaluation mode while it is used.
        lines: text without line ends; read `window` lines ahead.
        n_best: where the beam finds several spellings of one text, it is widened for that line until there are so many
            different ones.
        scored: with log-probabilities and scores.
        beam, length_penalty, penalty, never, draft: as for `beam_search`.
        max_extra: a translation, its end included, has at most this many tokens more than its source, and no more than
            learned positions allow.
        prefix: every translation begins with this text.
        batch_tokens: room for hypotheses in a batch: sentences x beam x (longest source + max_extra) stays
            within it, and memory grows with it. None: 32,768 on a CPU, 262,144 elsewhere.
        max_source_tokens: the longest source in training, eos included, `Run.max_source_tokens`: models leave things
            out of what is much longer. None: the model's `max_seq_len`.
        window: lines that are sorted by length together; 1 answers every line before the next is read.
        dtype: of the matrix products: float32, or bfloat16 or float16 by autocast.
        name: of the text, for warnings.

    Raises:
        UserError: an argument out of range, text that is not Unicode, or a prefix with characters that the vocabulary
            does not have.
    """
    check_encoder_decoder(model, "translate")
    if batch_tokens is None:
        batch_tokens = 32_768 if model.head_weight.device.type == "cpu" else 262_144
    trained = model.config.max_seq_len if max_source_tokens is None else max_source_tokens
    counts = {"beam": beam, "n_best": n_best, "batch_tokens": batch_tokens, "window": window}
    for option, value in {**counts, "max_source_tokens": trained}.items():
        if value < 1:
            raise UserError(f"{option} {value} must be at least 1")
    if n_best > _WIDEST:
        raise UserError(f"n_best {n_best} is more than {_WIDEST}, the widest beam that is searched with")
    if missing := unwritable_characters(tokenizer.target, prefix):
        raise UserError(f"prefix {prefix!r}: the model's vocabulary has no {' '.join(map(repr, missing))}")
    start, forced = tokenizer.target.encode_batch(["", prefix])
    how: dict[str, Any] = {"length_penalty": length_penalty, "penalty": penalty, "max_extra": max_extra}
    how |= {"never": never, "draft": draft, "scored": scored}
    finder = _Finder(model, tokenizer, start, forced, how, n_best, batch_tokens, dtype)
    return _translate(finder, lines, window, beam, trained, Notes(name, at_once=window == 1))


def _translate(
    finder: "_Finder", lines: Iterable[str], window: int, beam: int, trained: int, notes: Notes
) -> Iterator[list[Translation]]:
    source, read = iter(lines), 0
    while texts := list(islice(source, window)):
        chunk = _prepare(finder, texts, read + 1, trained, notes)
        read += len(texts)
        given = 0
        for _ in finder.find([piece for line in chunk for piece in line.pieces], beam):
            while given < len(chunk) and chunk[given].is_done:
                yield finder.join(chunk[given], notes)
                given += 1
        for line in chunk[given:]:  # empty ones, where there was no batch
            yield finder.join(line, notes)
    notes.warn(read)


@dataclass
class _Piece:
    """A line, or a part of one, that the model takes as a whole."""

    ids: list[int]
    is_first: bool
    found: list[Translation] = field(default_factory=list)
    is_done: bool = False


@dataclass
class _Line:
    number: int
    pieces: list[_Piece]

    @property
    def is_done(self) -> bool:
        return all(piece.is_done for piece in self.pieces)


def _prepare(finder: "_Finder", texts: Sequence[str], first: int, trained: int, notes: Notes) -> list[_Line]:
    """Lines in pieces; none of an empty one. `first`: number of the first line; `trained`: as for `cut_line`."""
    side, config = finder.tokenizer.source, finder.model.config
    holds = config.max_seq_len if config.positions == "learned" else max(config.max_seq_len, trained)
    [nothing], lines = side.encode_batch([""]), []
    texts = ["" if is_blank(text) else text for text in texts]
    for number, (text, ids) in enumerate(zip(texts, side.encode_batch(texts), strict=True), first):
        pieces = [] if ids == nothing else cut_line(side, text.strip(), ids, trained=trained, holds=holds)
        if pieces and is_long(len(ids) + 1, trained=trained, holds=holds):
            how = "in pieces" if len(pieces) > 1 else "as a whole, which is one sentence"
            notes.add(number, f"much longer than max_source_tokens ({min(trained, holds)}); translated {how}")
        lines.append(_Line(number, [_Piece(ids, i == 0) for i, ids in enumerate(pieces)]))
    return lines


# The widest beam that is tried: its hypotheses are compared with each other's tokens.
_WIDEST = 1024


@dataclass(frozen=True)
class _Finder:
    """Finds translations of pieces: `n_best` different ones."""

    model: EncoderDecoder
    tokenizer: TranslationTokenizer
    start: list[int]  # of every target
    forced: list[int]  # of that of a line's first piece
    how: dict[str, Any]
    n_best: int
    batch_tokens: int
    dtype: torch.dtype

    def find(self, pieces: list[_Piece], beam: int) -> Iterator[None]:
        """Fills in what is found; yields whenever some pieces are done. Where texts come twice, the beam is doubled."""
        wanted = self.n_best
        beam = max(beam, wanted)
        while pieces:
            scarce = []
            for batch in _plan(pieces, beam, self.how["max_extra"], self.batch_tokens):
                for piece, hypotheses in zip(batch, self._search(batch, beam, wanted), strict=True):
                    piece.found = self._different(hypotheses)
                    piece.is_done = len(piece.found) == self.n_best or len(hypotheses) < wanted or beam >= _WIDEST
                scarce += [piece for piece in batch if not piece.is_done]
                if self.how["scored"]:
                    self._score([piece for piece in batch if piece.is_done])
                yield
            beam = wanted = 2 * beam
            pieces = scarce

    def _search(self, batch: Sequence[_Piece], beam: int, n_best: int) -> list[list[Hypothesis]]:
        config, device = self.model.config, self.model.head_weight.device
        ids, mask = pad_ids([[*piece.ids, config.source_end] for piece in batch], config.pad_id)
        prefixes = [self.forced if piece.is_first else self.start for piece in batch] if self.forced else None
        how = {"beam": beam, "n_best": n_best, "prefix": prefixes, **self.how}
        with evaluating(self.model, self.dtype):
            return beam_search(self.model, ids.to(device), None if mask is None else mask.to(device), **how)

    def _different(self, hypotheses: Sequence[Hypothesis]) -> list[Translation]:
        """The first `n_best` texts that are more than other spellings, or other spaces, of one before."""
        found: dict[str, Translation] = {}
        for one in hypotheses:
            text = " ".join(self.tokenizer.target.decode(one.tokens).splitlines())
            new = Translation(text, math.nan, one.log_prob, one.score, is_cut=not one.ended)
            found.setdefault(" ".join(text.split()), new)
        return list(found.values())[: self.n_best]

    def _score(self, pieces: Sequence[_Piece]) -> None:
        """Give each text the log-probability that `score` gives it, and sort by it."""
        given, config = len(self.start), self.model.config
        texts = self.tokenizer.target.encode_batch([one.text for piece in pieces for one in piece.found])
        sources = [[*piece.ids, config.source_end] for piece in pieces for _ in piece.found]
        targets = [[config.bos_id, *ids, config.eos_id] for ids in texts]
        rows = iter(score_ids(self.model, list(zip(sources, targets, strict=True)), dtype=self.dtype))
        for piece in pieces:
            scored = [replace(one, log_prob=math.fsum(next(rows)[given:])) for one in piece.found]
            piece.found = sorted(scored, key=lambda one: (math.isnan(one.log_prob), -one.log_prob))

    def join(self, line: _Line, notes: Notes) -> list[Translation]:
        """Rank by rank, the pieces' translations in a row. Where a piece has fewer, its last one stands in."""
        if not line.pieces:
            return [Translation("", 0.0, 0.0, 0.0)]
        n = max(len(piece.found) for piece in line.pieces)
        ranks = [[piece.found[min(rank, len(piece.found) - 1)] for piece in line.pieces] for rank in range(n)]
        joined = [functools.reduce(_after, parts) for parts in ranks]
        if joined[0].is_cut:
            extra = self.how["max_extra"]
            notes.add(
                line.number,
                f"translated up to the length limit, perhaps not to the end; max_extra ({extra} tokens more than the "
                "source has) raises it",
            )
        if len(joined) < self.n_best:
            notes.add(line.number, f"fewer than {self.n_best} different translations; more were not to be found")
        return joined


def _after(first: Translation, then: Translation) -> Translation:
    return Translation(
        f"{first.text} {then.text}",
        first.log_prob + then.log_prob,
        first.search_log_prob + then.search_log_prob,
        first.search_score + then.search_score,
        is_cut=first.is_cut or then.is_cut,
    )


def _plan(pieces: list[_Piece], beam: int, max_extra: int, budget: int) -> Iterator[list[_Piece]]:
    """Batches of similar length, one sentence at least, within the budget, which is `batch_tokens`."""
    batch: list[_Piece] = []
    for piece in sorted(pieces, key=lambda piece: len(piece.ids)):
        if batch and (len(batch) + 1) * beam * (len(piece.ids) + 1 + max_extra) > budget:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch
