"""`tz.writer`: text in, its continuation out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from typing import Any, TypedDict, Unpack, overload

import torch

from transformer_zoo.config.decoding import Writing
from transformer_zoo.errors import UserError
from transformer_zoo.inference import (
    Alternative,
    Explained,
    ExplainedPiece,
    NewText,
    Speculation,
    Steps,
    draft_of,
    encode_prompt,
    explain,
    next_tokens,
    pack,
)
from transformer_zoo.inference.codec import codec_of
from transformer_zoo.inference.text import answer
from transformer_zoo.runs.doors import Source, Stream, Texts, dtype_of, each, opened, settled
from transformer_zoo.runs.load import Run, TextRun
from transformer_zoo.tokenizers.tokenizer import Tokenizer

_WORTH_PACKING = 4  # number of answers at a time


class WriteOptions(TypedDict, total=False):
    """Options of writing, for all calls or for one: the fields of `Writing`."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    no_repeat_ngram_size: int | None
    min_new_tokens: int | None
    max_new_tokens: int
    stop: list[str]
    seed: int | None
    stride: int | None
    write_special: bool


def writer(
    source: Source,
    *,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int = 16,
    **how: Unpack[WriteOptions],
) -> "Writer":
    """A function that continues texts, by a run, a folder or a name: text to text, list to list, iterator to iterator.
    >>> write = writer("runs/letters", max_new_tokens=5, seed=1)
    >>> write("Once") == "".join(write.stream("Once"))
    True

    Args:
        source: the folder of a run, or a run; a folder in Hugging Face's format, or a GGUF file; or the name of either
            on the hub, such as openai-community/gpt2, which is fetched once. A given run does not change.
        device: cpu, cuda, cuda:N or mps; None: the device of a given run, otherwise the GPU if there is one.
        dtype: of the weights: float32, bfloat16 or float16; None: unchanged.
        batch_size: number of texts that are continued at a time; it does not change what is written.
        how: fields of `Writing`, for all calls that give no other value.

    Raises:
        UserError: there is no such model, it is not decoder-only, or an option has a wrong value.
    """
    settled(Writing(), how)  # mistakes are reported before anything is read
    wanted = None if dtype is None else dtype_of(dtype)
    run = opened(source, device, "tz.writer", TextRun)
    if wanted is not None:
        if run is source:
            raise UserError("dtype is for a folder or a name: the weights of a run that is given stay as they are")
        run.model.to(wanted)
    return Writer(run, batch_size=batch_size, in_place=run is not source, **how)


class Writer:
    """A model that is ready to write; made by `writer`.
    >>> Writer(load_run("runs/letters"), seed=1, temperature=0).next_tokens("Once", k=2)[0].id < 257
    True

    Args:
        run: run of a decoder-only model; or of one that translates, whose answers are drawn.
        batch_size: number of prompts that are answered at a time.
        lookup, drafts: as in `Speculation`: the number of tokens guessed from the text, and whether a model with 8-bit
            weights makes guesses where that helps.
        in_place: whether the run's model may be prepared for writing alone; otherwise it does not change.
        how: as for `writer`.
    """

    def __init__(
        self,
        run: Run | TextRun,
        *,
        batch_size: int = 16,
        lookup: int = 8,
        drafts: bool = True,
        in_place: bool = False,
        **how: Unpack[WriteOptions],
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size {batch_size} must be at least 1")
        self.how, self.batch_size, self.lookup, self.in_place = settled(Writing(), how), batch_size, lookup, in_place
        self.run, self.drafts, self.is_ready = run, drafts, False
        self.draft: Any = None

    @overload
    def __call__(self, text: str, **how: Unpack[WriteOptions]) -> str: ...
    @overload
    def __call__(self, text: Texts, **how: Unpack[WriteOptions]) -> list[str]: ...
    @overload
    def __call__(self, text: Stream, **how: Unpack[WriteOptions]) -> Stream: ...
    def __call__(self, text: Any, **how: Unpack[WriteOptions]) -> Any:
        """The continuation of a text, of each text of a list, or of each from an iterator, which is read `batch_size`
        ahead.

        Args:
            text: one text, a list, or an iterator; an empty one begins a new text.
            how: fields of `Writing`, for this call.

        Raises:
            UserError: it is not a text, the vocabulary cannot spell it, or an option has a wrong value.
        """

        def written(texts: Iterable[str]) -> Iterator[str]:
            return ("".join(piece.text for piece in pieces) for pieces in self.answers(texts, **how))

        return each(text, written, "written")

    def stream(self, text: str | Sequence[int], **how: Unpack[WriteOptions]) -> Iterator[str]:
        """The continuation of a text, or of token ids, while it is written; the pieces joined are what a call
        returns."""
        wanted = settled(self.how, how)
        return (piece.text for piece in self._write([self._ids(text)], wanted, wanted.seed))

    def answers(self, prompts: Iterable[str], **how: Unpack[WriteOptions]) -> Iterator[Iterator[NewText]]:
        """The pieces of each answer, as soon as they are written, with what ends it. Each answer is read to its end in
        turn."""
        wanted, source, codec = settled(self.how, how), iter(prompts), codec_of(self.run.model, self.run.tokenizer)
        first = int(torch.randint(2**62, ())) if wanted.seed is None else wanted.seed
        batches = iter(lambda: list(islice(source, self.batch_size)), [])
        return (
            pieces
            for start, batch in zip(count(0, self.batch_size), batches, strict=False)
            for pieces in in_order(self._write(codec.encode(batch), wanted, first + start), len(batch))
        )

    def next_tokens(self, text: str | Sequence[int], *, k: int = 10) -> list[Alternative]:
        """The most likely tokens after a text, or after token ids, with the model's own probabilities: at temperature 1
        and before any rule.
        """
        return next_tokens(self.run.model, self._tokenizer, self._ids(text), k=k, never=self._never)

    def explain(self, text: str | Sequence[int], *, k: int = 5) -> Explained:
        """A text token by token: how likely each token is after those before it, and which others could stand there.

        The first token has no probability, unless the tokenizer puts something before each text.
        """
        ids, n = self._ids(text), max(1, len(self._tokenizer.start_ids))
        found = explain(self.run.model, self._tokenizer, ids[:n], ids[n:], k=k, never=self._never)
        first = [] if self._tokenizer.start_ids else [ExplainedPiece(self._tokenizer.decode(ids[:1]), ids[0], None)]
        return replace(found, pieces=[*first, *found.pieces])

    @property
    def _tokenizer(self) -> Tokenizer:
        if not isinstance(self.run, TextRun):
            raise UserError("this model answers a source, and does not continue texts: use tz.translator")
        return self.run.tokenizer

    @property
    def _never(self) -> set[int]:
        return {*self.run.model.facts.never, *self._tokenizer.special_ids}

    def _ids(self, text: str | Sequence[int]) -> list[int]:
        """The ids that the model reads of a text."""
        if isinstance(text, str):
            return encode_prompt(self.run.model, self._tokenizer, text)
        return [*self._tokenizer.start_ids, *text]

    def _write(self, given: list[list[int]], how: Writing, seed: int | None) -> Iterator[NewText]:
        self._make_ready(len(given), how)
        return answer(
            self.run.model,
            codec_of(self.run.model, self.run.tokenizer),
            given,
            how,
            stops=how.stop,
            max_new_tokens=how.max_new_tokens,
            seed=seed,
            never=() if how.write_special else None,
            speculation=Speculation(lookup=self.lookup, draft=self.draft),
            steps=Steps(stride=how.stride),
        )

    def _make_ready(self, n: int, how: Writing) -> None:
        """Prepare the model for this many answers at a time."""
        if not self.is_ready:
            drafting = self.drafts and (n == 1 or how.is_greedy)
            model, self.draft = made_ready(self.run.model, n, drafting=drafting, in_place=self.in_place)
            self.is_ready = n >= _WORTH_PACKING or self.draft is not None
            self.run = replace(self.run, model=model)


def made_ready(model: Any, n: int, *, drafting: bool, in_place: bool) -> tuple[Any, Any]:
    """The model with its weights stored for writing this many answers at a time, if that helps, and a draft if that
    helps; `in_place`: in the model itself."""
    draft = draft_of(model) if drafting else None
    return pack(model, in_place=in_place) if n >= _WORTH_PACKING or draft is not None else model, draft


def in_order(pieces: Iterable[NewText], n: int) -> Iterator[Iterator[NewText]]:
    """The pieces of answer 0 as they come, then those of answer 1, some of which have come already, and so on.

    Each answer must be read to its end before the next is asked for.
    """
    source = iter(pieces)
    waiting: list[list[NewText]] = [[] for _ in range(n)]

    def answer(row: int) -> Iterator[NewText]:
        yield from waiting[row]
        if waiting[row] and waiting[row][-1].end:
            return
        for piece in source:
            if piece.row != row:
                waiting[piece.row].append(piece)
                continue
            yield piece
            if piece.end:
                return

    yield from map(answer, range(n))
