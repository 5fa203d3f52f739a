"""Requests to an engine: any thread may wait for one, listen to it, or cancel it."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

from transformer_zoo.errors import UserError

T = TypeVar("T")
Reason = Literal["eos", "stop", "length", "done", "cancelled", "error"]


class QueueFull(UserError):
    """So many requests are waiting that another one is refused; it may be sent again later.
    >>> issubclass(QueueFull, tz.UserError)
    True
    """


class Closed(UserError):
    """The engine takes no more requests, or ended before it came to this one.
    >>> issubclass(Closed, tz.UserError)
    True
    """


class StepFailed(RuntimeError):
    """The computation for this request, and perhaps for others, failed; the message says why.
    >>> raise StepFailed("out of memory") from None
    Traceback (most recent call last):
    transformer_zoo.serving.requests.StepFailed: out of memory
    """


class Event(NamedTuple):
    """The new part of an answer: text to add, and the tokens since the last part; `end` says why it is the last, if it
    is.

    Text that may become a stop string, or is not a whole character yet, is held back. So a token may come before its
    text.
    """

    text: str
    tokens: tuple[int, ...] = ()
    end: Reason | None = None


@dataclass
class Usage:
    """Number of tokens read and written so far, without the token that ends a text.
    >>> request = writer.write("Once", max_new_tokens=5)
    >>> request.result().end, request.usage
    ('length', Usage(prompt_tokens=4, completion_tokens=5))
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Request(Future[T], Generic[T]):
    """A `concurrent.futures.Future` of an answer that can be listened to while it is written.

    `result(timeout)` waits for it. `cancel()` cancels the request at any time, and frees its place at the next step.
    `asyncio.wrap_future` and `stream` are for coroutines.
    >>> request = writer.write("Once", max_new_tokens=5)  # a Request
    >>> "".join(event.text for event in request.events()) == request.result().text
    True

    Attributes:
        usage: number of tokens that were read and written.
        is_started: whether it no longer waits.
    """

    def __init__(self, prompt_tokens: int = 0) -> None:
        super().__init__()
        self.usage = Usage(prompt_tokens)
        self.is_started = False
        self._reason: Reason | None = None
        self._heard: list[Event | None] = []
        self._listeners: list[Callable[[Event | None], object]] = []
        self._hearing = threading.Lock()
        self.add_done_callback(lambda _: self.tell(None))

    @property
    def reason(self) -> Reason | None:
        """Why it ended: eos, stop or length for a text, done for anything else, cancelled, error; None: it has not
        ended."""
        if self.cancelled():
            return "cancelled"
        if not self.done():
            return None
        return self._reason if self.exception() is None else "error"

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """The new parts, as they come, from the beginning. TimeoutError: nothing came for this many seconds. If the
        request fails, its error is raised."""
        heard = queue.SimpleQueue[Event | None]()
        self.listen(heard.put)
        while (event := self._next(heard, timeout)) is not None:
            yield event
        if not self.cancelled():
            self.result()

    @staticmethod
    def _next(heard: "queue.SimpleQueue[Event | None]", timeout: float | None) -> Event | None:
        try:
            return heard.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"nothing was written for {timeout} s") from None

    async def stream(self) -> AsyncIterator[Event]:
        """`events` for a coroutine. If it is left before the end, the request is cancelled."""
        loop, heard = asyncio.get_running_loop(), asyncio.Queue[Event | None]()
        self.listen(lambda event: loop.call_soon_threadsafe(heard.put_nowait, event))
        try:
            while (event := await heard.get()) is not None:
                yield event
        finally:
            self.cancel()  # does nothing if the request has ended
        if not self.cancelled():
            self.result()

    def listen(self, listener: Callable[[Event | None], object]) -> None:
        """Call this with every part so far, and then with each new part, None at last. It is called immediately, in the
        thread that computes. A function that fails is not called again."""
        with self._hearing:
            for event in self._heard:
                listener(event)
            self._listeners.append(listener)

    def tell(self, event: Event | None) -> None:
        """For the engine: add a new part."""
        with self._hearing:
            if self._heard[-1:] == [None]:  # it was cancelled
                return
            self._heard.append(event)
            for listener in [*self._listeners]:
                try:
                    listener(event)
                except Exception:  # somebody's loop is closed; other listeners must not suffer
                    self._listeners.remove(listener)

    def finish(self, result: T, reason: Reason) -> None:
        """For the engine: set the answer."""
        with suppress(InvalidStateError):  # it was cancelled meanwhile
            self._reason = reason
            self.set_result(result)

    def fail(self, error: Exception) -> None:
        """For the engine: there is no answer, and the reason."""
        known = error if isinstance(error, UserError | StepFailed) else StepFailed(f"{type(error).__name__}: {error}")
        with suppress(InvalidStateError):
            self.set_exception(known)
