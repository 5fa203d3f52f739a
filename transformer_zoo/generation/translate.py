"""Lines of text in, translations out: tokenized, sorted by length, batched, searched, put back in order."""

import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypedDict, Unpack

import torch

from transformer_zoo.errors import UserError
from transformer_zoo.generation.beam import Penalty, beam_search
from transformer_zoo.generation.inference import evaluating, pad_ids
from transformer_zoo.generation.search import Hypothesis
from transformer_zoo.models import EncoderDecoder


class Side(Protocol):
    """What is asked of the tokenizer of one language: ids, and back.

    Of special tokens only those that every text of the language has at its start, such as its tag, are among them.
    """

    def encode_batch(self, texts: Sequence[str], /) -> list[list[int]]:
        """Ids of each text."""
        ...

    def tag_of(self, text: str, /) -> str:
        """What a text has at its start that goes for all of it, such as the language to translate to; mostly ""."""
        ...

    def decode(self, ids: Sequence[int], /) -> str:
        """Text of these ids."""
        ...


class Tokenizer(Protocol):
    """The tokenizers of both languages."""

    @property
    def source(self) -> Side:
        """Of the language translated from."""
        ...

    @property
    def target(self) -> Side:
        """Of the language translated to."""
        ...


@dataclass(frozen=True)
class Translation:
    """A translated line, its log-probability under the model, and that over the length penalty.

    Of a line that was split, the sums over its pieces; where scores were not asked for, nan or 0. `is_cut`: it, or a
    piece of it, did not end by itself within what `max_extra` allows; see `Hypothesis`.
    """

    text: str
    log_prob: float
    score: float
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


def translate(
    model: EncoderDecoder, tokenizer: Tokenizer, lines: Iterable[str], **options: Unpack[TranslateOptions]
) -> Iterator[str]:
    """The best translation of each line, in order, on the device of the model; see `translate_n_best`."""
    return (best[0].text for best in translate_n_best(model, tokenizer, lines, scored=False, **options))


def translate_n_best(
    model: EncoderDecoder,
    tokenizer: Tokenizer,
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
) -> Iterator[list[Translation]]:
    """For each line, in order, its `n_best` translations, best first, as soon as the batches they are in are
    done.

    A line of nothing but space gives one empty translation. A line of more than `max_source_tokens` is split, at
    the ends of sentences where possible, else between words, and its pieces' translations are joined by a space; a
    warning names it. A line break in a translation becomes a space. How lines are batched changes the speed, not
    (in float32) the translations.

    Args:
        model, tokenizer: as `load_run` gives them. The model is put into evaluation mode while it is used.
        lines: text without line ends; read `window` lines ahead.
        n_best, scored, beam, length_penalty, penalty, max_extra, never, draft: as for `beam_search`.
        prefix: every translation begins with this text.
        batch_tokens: room for hypotheses in a batch: sentences x beam x (longest source + max_extra) stays
            within it, and memory grows with it. None: 32,768 on a CPU, 262,144 elsewhere.
        max_source_tokens: longest source, eos included; None: the model's `max_seq_len`. What a run was trained
            on, `Run.max_source_tokens`, is a better limit: beyond it models leave things out.
        window: lines that are sorted by length together; 1 answers every line before the next is read.
        dtype: of the matrix products: float32, or bfloat16 or float16 by autocast.

    Raises:
        UserError: an argument out of range, or text that is not Unicode.
    """
    if batch_tokens is None:
        batch_tokens = 32_768 if model.head_weight.device.type == "cpu" else 262_144
    if batch_tokens < 1 or window < 1:
        raise UserError(f"batch_tokens {batch_tokens} and window {window} must be at least 1")
    longest = model.config.max_seq_len
    limit = longest if max_source_tokens is None else max_source_tokens
    if model.config.positions == "learned":
        limit = min(limit, longest)
    start, forced = tokenizer.target.encode_batch(["", prefix])
    how: dict[str, Any] = {"beam": beam, "length_penalty": length_penalty, "penalty": penalty, "max_extra": max_extra}
    how |= {"never": never, "draft": draft, "scored": scored}
    source, read = iter(lines), 0
    while texts := list(islice(source, window)):
        chunk = _prepare(tokenizer, texts, read + 1, limit)
        read += len(texts)
        given = 0
        for batch in _plan([piece for line in chunk for piece in line.pieces], beam, max_extra, batch_tokens):
            prefixes = [forced if piece.is_first else start for piece in batch] if forced else None
            found = _search(model, [piece.ids for piece in batch], dtype, n_best=n_best, prefix=prefixes, **how)
            for piece, hypotheses in zip(batch, found, strict=True):
                piece.found = hypotheses
            while given < len(chunk) and chunk[given].is_done:
                yield chunk[given].join(tokenizer)
                given += 1
        yield from (line.join(tokenizer) for line in chunk[given:])  # empty lines, where there was no batch


def _search(
    model: EncoderDecoder, sources: Sequence[Sequence[int]], dtype: torch.dtype, **how: Any
) -> list[list[Hypothesis]]:
    """`beam_search` of sources without their end."""
    config, device = model.config, model.head_weight.device
    ids, mask = pad_ids([[*source, config.source_end] for source in sources], config.pad_id)
    with evaluating(model, dtype):
        return beam_search(model, ids.to(device), None if mask is None else mask.to(device), **how)


@dataclass
class _Piece:
    """A line, or a part of one, that the model takes as a whole."""

    ids: list[int]
    is_first: bool
    found: list[Hypothesis] = field(default_factory=list)


@dataclass
class _Line:
    pieces: list[_Piece]

    @property
    def is_done(self) -> bool:
        return all(piece.found for piece in self.pieces)

    def join(self, tokenizer: Tokenizer) -> list[Translation]:
        """Rank by rank, the pieces' hypotheses in a row. Where a piece has fewer, its last one stands in."""
        if not self.pieces:
            return [Translation("", 0.0, 0.0)]
        joined = []
        for rank in range(max(len(piece.found) for piece in self.pieces)):
            parts = [piece.found[min(rank, len(piece.found) - 1)] for piece in self.pieces]
            text = " ".join(" ".join(tokenizer.target.decode(part.tokens).splitlines()) for part in parts)
            log_prob, score = sum(part.log_prob for part in parts), sum(part.score for part in parts)
            joined.append(Translation(text, log_prob, score, is_cut=not all(part.ended for part in parts)))
        return joined


def _prepare(tokenizer: Tokenizer, texts: Sequence[str], first: int, limit: int) -> list[_Line]:
    """Lines in pieces of at most `limit` tokens, eos included; none of an empty one. `first`: number of the first."""
    [nothing], lines = tokenizer.source.encode_batch([""]), []
    for number, (text, ids) in enumerate(zip(texts, tokenizer.source.encode_batch(texts), strict=True), first):
        if ids == nothing or not text.strip():
            pieces = []
        elif len(ids) < limit:
            pieces = [ids]
        else:
            pieces = _encode_in_pieces(tokenizer.source, text.strip(), limit)
            warnings.warn(
                f"line {number}: {len(ids) + 1} tokens, more than max_source_tokens ({limit}); "
                f"translated in {len(pieces)} pieces",
                stacklevel=3,
            )
        lines.append(_Line([_Piece(ids, i == 0) for i, ids in enumerate(pieces)]))
    return lines


def _encode_in_pieces(source: Side, text: str, limit: int) -> list[list[int]]:
    """Ids of the parts of a text that is too long, each with the text's own tag."""
    tag = source.tag_of(text)

    def encode(part: str) -> list[int]:
        return source.encode_batch([tag + part])[0]

    return list(map(encode, split_text(text.removeprefix(tag).strip(), lambda part: len(encode(part)) < limit)))


# Ends of sentences: punctuation, what closes after it, space; the full-width ones need no space. Then spaces.
_CUTS = (re.compile(r"[.!?…][\"')\]»”’]*\s+|[。！？]+"), re.compile(r"\s+"))


def split_text(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Halve a text until every piece fits: at the end of a sentence, else at a space, else anywhere.

    Of the places to cut at, the one nearest to the middle is taken.
    """
    if fits(text) or len(text) < 2:
        return [text]
    for pattern in _CUTS:
        if ends := [match.end() for match in pattern.finditer(text) if match.end() < len(text)]:
            cut = min(ends, key=lambda end: abs(2 * end - len(text)))
            break
    else:
        cut = len(text) // 2
    return [piece for half in (text[:cut], text[cut:]) for piece in split_text(half.strip(), fits)]


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
