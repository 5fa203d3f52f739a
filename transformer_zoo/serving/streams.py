"""Answers that are sent while they are written."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from transformer_zoo.serving.jobs import while_there


class Stream(StreamingResponse):
    """A response with the items of a generator, which is closed when the client has everything, or is gone.

    Args:
        first: The first item, which came without an error.
        rest: The generator.
    """

    def __init__(self, first: str, rest: AsyncGenerator[str, None], media_type: str) -> None:
        self.rest = rest
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # a proxy must not wait for the whole answer
        super().__init__(self._all(first), media_type=media_type, headers=headers)

    async def _all(self, first: str) -> AsyncIterator[str]:
        yield first
        async for part in self.rest:
            yield part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.rest.aclose()


async def streamed(request: Request, parts: AsyncGenerator[str, None], media_type: str) -> Stream:
    """The answer made of these parts. An error before the first part is raised, so that it gets its own status."""

    async def first() -> str:
        return await anext(parts)

    return Stream(await while_there(request, first()), parts, media_type)


def server_sent(data: Any) -> str:
    """An event of text/event-stream."""
    return f"data: {json.dumps(data)}\n\n"
