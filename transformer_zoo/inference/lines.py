"""Lines of text in, answers out: lines are tokenized, sorted by length, batched, searched, and put back in order."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch

from transformer_zoo.characters import is_blank
from transformer_zoo.config import BeamSearch, Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.inference.codec import Codec, Tokenizers, codec_of
from transformer_zoo.inference.finder import WIDEST, Finder
from transformer_zoo.inference.notes import Notes
from transformer_zoo.inference.pieces import Batching, Line, Piece, Translation
from transformer_zoo.inference.speculation import Speculation
from transformer_zoo.inference.splitting import Cutter
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
    language: str | None = None,
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
        language=language,
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
    sampling: Sampling | None = None,
    seed: int | None = None,
    prefix: str | Sequence[int] = "",
    never: Collection[int] | None = None,
    max_source_tokens: int | None = None,
    language: str | None = None,
    speculation: Speculation = Speculation(),
    batching: Batching = Batching(),
    name: str = "",
) -> Iterator[list[Translation]]:
    """Yields the `n_best` translations of each line, in order, as soon as their batches are done: different texts,
    those with the highest `log_prob` first. For a decoder-only model lines are prompts, and it finds continuations.

    A line of white space gives one empty translation. A line of more than 1.5 times `max_source_tokens` is cut at the
    ends of sentences into pieces of no more than that, and their translations are joined by a space. A sentence is cut
    only if the model cannot take it whole, because its meaning would be lost. Warnings count such lines, lines whose
    translations `max_extra` ended, and lines with fewer different translations than wanted.
    >>> [[best, second]] = translate_n_best(translator, pair, ["ja"], BeamSearch(n_best=2, max_extra=10))

    Args:
        model, tokenizer: as `load_run` returns them. The model is in evaluation mode while it is used.
        lines: text, one sentence each.
        how: settings of the search. If fewer than `n_best` of the beam's hypotheses are different texts, the beam of
            that line is widened until there are enough.
        scored: whether translations have log-probabilities and scores.
        sampling: draw one translation of each line; `how` then only limits its length.
        seed: line i draws with seed + i; None: another seed each time.
        prefix: every translation begins with this text, or with these tokens.
        never: as for `beam_search`.
        max_source_tokens: the longest source in training, eos included, as in `Run.max_source_tokens`. Models leave
            things out of much longer lines. None: the model's `max_seq_len`.
        language: language of the lines, in any spelling, which tells where sentences end; None: it is not known.
        speculation: used when one line at a time is translated by a beam of 1 and without scores.
        batching: how lines become batches.
        name: name of the text in warnings.

    Raises:
        UserError: an argument is out of range, a text is not Unicode, or the vocabulary lacks characters of the prefix.
    """
    finder, cutter = finder_of(
        model,
        tokenizer,
        how,
        scored=scored,
        sampling=sampling,
        seed=seed,
        prefix=prefix,
        never=never,
        max_source_tokens=max_source_tokens,
        language=language,
        speculation=speculation,
        batching=batching,
    )
    return _translate(finder, lines, cutter, Notes(name, at_once=batching.window == 1))


def finder_of(
    model: DecodingModel,
    tokenizer: Tokenizers,
    how: BeamSearch,
    *,
    scored: bool = False,
    sampling: Sampling | None = None,
    seed: int | None = None,
    prefix: str | Sequence[int] = "",
    never: Collection[int] | None = None,
    max_source_tokens: int | None = None,
    language: str | None = None,
    speculation: Speculation = Speculation(),
    batching: Batching = Batching(),
) -> tuple[Finder, Cutter]:
    """What translates and cuts lines for `translate_n_best`, with the same arguments and errors."""
    check_decoding(model, "translate")
    trained = model.config.max_seq_len if max_source_tokens is None else max_source_tokens
    if trained < 1:
        raise UserError(f"max_source_tokens {trained} must be at least 1")
    if how.n_best > WIDEST:
        raise UserError(f"n_best {how.n_best} is more than {WIDEST}, the widest beam that is searched with")
    if sampling is not None and how.n_best > 1:
        raise UserError(f"n_best {how.n_best}: a translation that is drawn is one; leave out n_best, or what draws")
    codec = codec_of(model, tokenizer)
    if batching.batch_tokens is None:
        batching = replace(batching, batch_tokens=32_768 if model.head_weight.device.type == "cpu" else 262_144)
    if sampling is not None:
        seed = int(torch.randint(2**62, ())) if seed is None else seed
    forced = _forced(codec, prefix)
    finder = Finder(model, codec, forced, how, scored, sampling, seed, never, speculation, batching)
    return finder, Cutter.of(model, trained, language)


def _forced(codec: Codec, prefix: str | Sequence[int]) -> list[int]:
    """The ids that a line's translation must begin with, such as a language's tag."""
    if not isinstance(prefix, str):
        return [*codec.start, *prefix]
    if missing := unwritable_characters(codec.target, prefix):
        raise UserError(f"prefix {prefix!r}: the model's vocabulary has no {' '.join(map(repr, missing))}")
    return codec.target.encode_batch([prefix])[0]


def _translate(finder: Finder, lines: Iterable[str], cutter: Cutter, notes: Notes) -> Iterator[list[Translation]]:
    source, read = iter(lines), 0
    while texts := list(islice(source, finder.batching.window)):
        chunk = prepare_lines(finder.codec, texts, read + 1, cutter, notes)
        read += len(texts)
        given = 0
        for _ in finder.find([piece for line in chunk for piece in line.pieces]):
            while given < len(chunk) and chunk[given].is_done:
                yield finder.join(chunk[given], notes)
                given += 1
        for line in chunk[given:]:  # empty ones, where there was no batch
            yield finder.join(line, notes)
    notes.warn(read)


def prepare_lines(codec: Codec, texts: Sequence[str], first: int, cutter: Cutter, notes: Notes) -> list[Line]:
    """Lines in pieces; an empty line has none. `first` is the number of the first line."""
    lines, longest = list[Line](), min(cutter.trained, cutter.holds)
    texts = ["" if is_blank(text) else text for text in texts]
    for number, (cut, how) in enumerate(codec.cut(texts, cutter), first):
        if how:
            notes.add(number, f"much longer than max_source_tokens ({longest}); translated {how}")
        lines.append(Line(number, [Piece(ids, number, place) for place, ids in enumerate(cut)]))
    return lines
