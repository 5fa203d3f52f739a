"""One thread that computes for many people: requests are batched as they come and leave the batch when they end."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor

from transformer_zoo.config import BeamSearch, Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.inference import TargetScore, Translation, draft_of, embed, pack, score
from transformer_zoo.inference.codec import codec_of
from transformer_zoo.inference.lines import finder_of, prepare_lines
from transformer_zoo.inference.notes import Notes
from transformer_zoo.models import check_encoder_decoder, check_encoder_only
from transformer_zoo.runs import EncoderRun, Run, TextRun
from transformer_zoo.runs.huggingface import translating
from transformer_zoo.runs.paragraphs import laid_out
from transformer_zoo.serving.calls import Calls
from transformer_zoo.serving.prompts import most_tokens, new_row
from transformer_zoo.serving.requests import Closed, QueueFull, Request
from transformer_zoo.serving.translating import Lines, Translating
from transformer_zoo.serving.writing import Writing, Written
from transformer_zoo.threads import adapt

T = TypeVar("T")
_AT_ONCE = 8  # number of texts that are scored or embedded between two steps


class Worker(Protocol):
    """A kind of work, done one piece at a time."""

    def due(self) -> float | None: ...

    def advance(self) -> None: ...

    def fail(self, error: Exception) -> None: ...


class Engine:
    """Answers the requests of many people with one model, as if each request were alone.

    All methods may be called from any thread. They refuse wrong requests and those beyond the limits.
    An answer (a `Request`) does not depend on other requests: it is that of the commands, except for rounding.
    >>> with Engine(TextRun(gpt, letters, {})) as engine:
    ...     len(engine.write("Once", max_new_tokens=9).result().tokens)
    9

    Args:
        run: a run as `load_run` returns it; its model is in evaluation mode from now on.
        in_place: prepare its model for this alone, as `pack` does; otherwise a copy is prepared and the model stays
            unchanged.
        max_batch: number of texts that are written, and of lines that are translated, at a time. With 1 the engine
            drafts tokens as the commands do, and a single person waits less.
        max_queue: number of requests that may wait; more are refused.
        gather_ms: milliseconds for which a line waits for others to be translated with it.
        max_tokens: number of tokens of a text, at most, prompt and answer together; None: its `max_seq_len`, or as many
            of these as fit `max_batch` times into half of the free memory.

    Raises:
        UserError: a number is out of range, or the memory does not suffice.
    """

    def __init__(
        self,
        run: Run | TextRun | EncoderRun,
        *,
        in_place: bool = False,
        max_batch: int = 16,
        max_queue: int = 64,
        gather_ms: float = 3.0,
        max_tokens: int | None = None,
    ) -> None:
        for name, value in {"max_batch": max_batch, "max_queue": max_queue, "max_tokens": max_tokens}.items():
            if value is not None and value < 1:
                raise UserError(f"{name} {value} must be at least 1")
        self.max_queue = max_queue
        self.run: Run | TextRun | EncoderRun = run
        run.model.eval()
        self.calls = Calls()
        self.workers: list[Worker] = [self.calls]
        if not isinstance(run, EncoderRun):
            draft = draft_of(run.model) if max_batch == 1 else None
            self.run = run = replace(run, model=pack(run.model, in_place=in_place))  # type: ignore[arg-type]
            self.max_tokens = most_tokens(run.model, max_batch, max_tokens)
            self.writing = Writing(run.model, max_batch, draft)
            self.translating = Translating(max_batch, gather_ms / 1000)
            self.workers += [self.writing, self.translating]
        self._run_for = lru_cache(16)(self._run_for_languages)  # each has tokenizers of its own
        self._finder_of = lru_cache(16)(finder_of)
        self._open = True
        self._requests: set[Request[Any]] = set()
        self._inbox: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self.thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self.thread.start()

    def write(
        self,
        prompt: str | Sequence[int],
        sampling: Sampling = Sampling(),
        *,
        max_new_tokens: int | None = None,
        stops: Sequence[str] = (),
        seed: int | None = None,
        never: Collection[int] | None = None,
        ignore_eos: bool = False,
    ) -> Request[Written]:
        """Continue a prompt, or draw a translation of a source: text or token ids. Its events are pieces of text.

        Arguments are those of `inference.write`. Without max_new_tokens an answer may be as long as there is space.

        Raises:
            QueueFull, Closed: there are too many requests, or the engine takes no more.
            UserError: an argument is out of range, or prompt and answer are longer than `max_tokens`.
        """
        run = self._writer("write")
        row = new_row(
            run.model,
            codec_of(run.model, run.tokenizer),
            prompt,
            sampling,
            most=self.max_tokens,
            max_new_tokens=max_new_tokens,
            stops=stops,
            seed=seed,
            never=never,
            ignore_eos=ignore_eos,
        )
        return self._submit(row.request, partial(self.writing.waiting.append, row))

    def translate(
        self,
        texts: str | Sequence[str],
        how: BeamSearch = BeamSearch(),
        *,
        source_lang: str | None = None,
        target_lang: str | None = None,
        prefix: str | Sequence[int] = "",
        never: Collection[int] | None = None,
        max_source_tokens: int | None = None,
        scored: bool = False,
    ) -> Request[list[list[Translation]]]:
        """The `n_best` translations of each text, or of the only one, as `tz.translator` returns them.

        Arguments and errors are those of `translate_n_best`, and as for `write`. Languages are for a model that knows
        many.
        """
        check_encoder_decoder(self.run.model, "translate")
        run, texts = self._run_for(source_lang, target_lang), [texts] if isinstance(texts, str) else list(texts)
        finder, cutter = self._finder_of(
            run.model,
            run.tokenizer,
            how,
            scored=scored,
            prefix=prefix if isinstance(prefix, str) else tuple(prefix),
            never=None if never is None else frozenset(never),
            max_source_tokens=max_source_tokens or run.max_source_tokens,
            language=source_lang or run.source_language,
        )
        shown = [laid_out(text, run) for text in texts]
        given = [line for parts in shown for line in parts[1::2] or [""]]
        lines = prepare_lines(finder.codec, given, 1, cutter, Notes())
        request = Request[list[list[Translation]]](sum(len(piece.ids) for line in lines for piece in line.pieces))
        return self._submit(request, partial(self.translating.add, Lines(request, finder, shown, lines)))

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> Request[list[TargetScore]]:
        """log p of each target, given its source; see `inference.score`."""
        run = self._writer("score")
        if len(sources) != len(targets):
            raise UserError(f"{len(sources)} sources and {len(targets)} targets: they must match line for line")

        def scored() -> Generator[None, None, list[TargetScore]]:
            found = list[TargetScore]()
            for i in range(0, len(sources), _AT_ONCE):
                now = slice(i, i + _AT_ONCE)
                found += score(run.model, run.tokenizer, sources[now], targets[now])
                yield
            return found

        return self.call(scored)

    def embed(self, texts: Sequence[str]) -> Request[Tensor]:
        """One vector for each text, (N, D); see `inference.embed`."""
        check_encoder_only(self.run.model, "embed")
        run = cast(EncoderRun, self.run)

        def embedded() -> Generator[None, None, Tensor]:
            found = []
            for i in range(0, len(texts), _AT_ONCE):
                found.append(embed(run.model, run.tokenizer, texts[i : i + _AT_ONCE]))
                yield
            return torch.cat(found) if found else torch.empty(0, run.model.config.d_model)

        return self.call(embedded)

    def call(self, function: Callable[[], T | Generator[None, None, T]]) -> Request[T]:
        """Call a function between steps, such as one that looks at the model, and return its result. A function that
        takes long is a generator: it yields wherever other work may be done, and returns the result at the end."""
        request = Request[T]()
        return self._submit(request, partial(self.calls.waiting.append, (request, function)))

    @property
    def n_waiting(self) -> int:
        """Number of requests that wait."""
        return sum(not request.is_started for request in [*self._requests])

    @property
    def n_running(self) -> int:
        """Number of requests that are being answered."""
        return sum(request.is_started for request in [*self._requests])

    def drain(self, timeout: float | None = None) -> bool:
        """Refuse new requests and wait for all others; returns whether all are answered after this many seconds."""
        with self._changed:
            self._open = False
            return self._changed.wait_for(lambda: not self._requests, timeout)

    def close(self) -> None:
        """Stop; requests without an answer are cancelled."""
        with self._changed:
            self._open = False
            requests = [*self._requests]
        for request in requests:
            request.cancel()
        with self._changed:
            self._changed.notify_all()
        if threading.current_thread() is not self.thread:
            self.thread.join()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _writer(self, use: str) -> Run | TextRun:
        if isinstance(self.run, EncoderRun):
            raise UserError(f"{use} needs a model that writes, and this is {self.run.kind}, for {self.run.used_by}")
        return self.run

    def _run_for_languages(self, source: str | None, target: str | None) -> Run:
        """The run for these languages, whose model has the same weights."""
        run = cast(Run, self.run)
        return run if source is target is None else translating(run, source, target, of="the model")

    def _submit(self, request: Request[T], start: Callable[[], None]) -> Request[T]:
        with self._changed:
            if not self._open:
                raise Closed("the engine is closing, and takes no more requests")
            if self.n_waiting >= self.max_queue:
                raise QueueFull(f"{self.max_queue} requests are waiting already: come again later")
            self._requests.add(request)
            self._inbox.append(start)
            self._changed.notify_all()
        request.add_done_callback(self._forget)
        return request

    def _forget(self, request: Any) -> None:
        with self._changed:
            self._requests.discard(request)
            self._changed.notify_all()

    def _work(self) -> None:
        """The work of the thread until the engine is closed and everything is answered."""
        try:
            with torch.inference_mode():
                while self._wait():
                    adapt()
                    for worker in self.workers:
                        self._advance(worker)
        finally:
            with self._changed:
                self._open = False  # if it was not closed, but failed
            for request in [*self._requests]:
                request.fail(Closed("the engine has ended"))

    def _wait(self) -> bool:
        """Wait until there is something to do; returns whether there may be anything more."""
        with self._changed:
            dues = [due for worker in self.workers if (due := worker.due()) is not None]
            if not self._inbox and (self._requests or self._open):
                self._changed.wait_for(
                    lambda: self._inbox or not (self._requests or self._open), min(dues, default=None)
                )
            while self._inbox:
                self._inbox.popleft()()
            return bool(self._requests or self._open)

    def _advance(self, worker: Worker) -> None:
        try:
            worker.advance()
        except Exception as error:
            with suppress(Exception):
                worker.fail(error)
