"""Waiting for an engine on behalf of a client who may go away, and only for a limited time."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from fastapi import Request as HttpRequest
from starlette.requests import ClientDisconnect

from transformer_zoo.serving.refusals import Refusal
from transformer_zoo.serving.requests import Event, Request

T = TypeVar("T")


def too_slow(seconds: float) -> Refusal:
    """The refusal of work that takes more than this many seconds."""
    return Refusal(503, f"this takes more than {seconds:g} s: ask for less, or later", code="timeout", retry_after=10)


async def while_there(request: HttpRequest, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work. It is cancelled if the client goes away, or if it takes more than `max_seconds`.

    Raises:
        ClientDisconnect, Refusal: one of these happened.
    """
    seconds = request.app.state.serving.settings.max_seconds
    gone, answer = asyncio.create_task(_leaving(request)), asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({gone, answer}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if answer in done:
            return answer.result()
        raise ClientDisconnect if gone in done else too_slow(seconds)
    finally:
        gone.cancel()
        answer.cancel()
        await asyncio.gather(gone, answer, return_exceptions=True)


async def _leaving(request: HttpRequest) -> None:
    """Wait until the client is gone; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@contextmanager
def held(begun: Iterable[Request[T]]) -> Iterator[list[Request[T]]]:
    """Requests to an engine, which are cancelled at the end, and also if the engine refuses a later one."""
    requests: list[Request[T]] = []
    try:
        for request in begun:
            requests.append(request)
        yield requests
    finally:
        for request in requests:
            request.cancel()


async def answers(requests: Sequence[Request[T]]) -> list[T]:
    """All answers, in order."""
    return await asyncio.gather(*map(asyncio.wrap_future, requests))


async def results(begun: Iterable[Request[T]]) -> list[T]:
    """All answers to the requests that are made; the requests are cancelled at the end."""
    with held(begun) as requests:
        return await answers(requests)


async def events(requests: Sequence[Request[Any]], seconds: float) -> AsyncIterator[tuple[int, Event]]:
    """New pieces of several answers, as they come, with the number of the answer."""
    loop, heard = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Event | None]]()

    def hear(number: int, event: Event | None) -> None:
        loop.call_soon_threadsafe(heard.put_nowait, (number, event))

    for number, request in enumerate(requests):
        request.listen(partial(hear, number))
    n_open, deadline = len(requests), loop.time() + seconds
    while n_open:
        try:
            number, event = await asyncio.wait_for(heard.get(), deadline - loop.time())
        except TimeoutError:
            raise too_slow(seconds) from None
        if event is not None:
            yield number, event
            continue
        n_open -= 1
        requests[number].result()
