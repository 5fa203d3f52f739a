"""The process that serves: the address it listens on, and how it ends."""

import os
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import FrameType

import uvicorn
from fastapi import FastAPI

from transformer_zoo.config.serving import ServingSettings
from transformer_zoo.errors import UserError
from transformer_zoo.serving.engine import Engine

_MOST_CONNECTIONS, _LAST_PORT = 1000, 65535


def listen(host: str, port: int) -> socket.socket:
    """A socket with the address, which does not accept connections yet. UserError: the address cannot be used."""
    if port > _LAST_PORT:
        raise UserError(f"--port {port}: ports end at {_LAST_PORT}")
    with ExitStack() as stack:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(f"{host}:{port} cannot be served at: {why}; give another --port or --host") from None
        stack.pop_all()
        return listener


class Server(uvicorn.Server):
    """Serve until a signal comes. Then it accepts nothing new, finishes running requests within `grace`, and returns. A
    second signal ends the process immediately.

    Args:
        app: The application, as `create_app` returns it.
        engines: Its engines.
        settings: How long it may finish.
        started: Called once it accepts connections.
    """

    def __init__(
        self,
        app: FastAPI,
        engines: Iterable[Engine],
        settings: ServingSettings,
        started: Callable[[], object] = lambda: None,
    ) -> None:
        self._engines, self._say_started = list(engines), started
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # anybody could send such a header
            ws="none",
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=settings.grace,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As in uvicorn, with a message."""
        await super().startup(sockets)
        self._say_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As in uvicorn; before that the engines refuse new requests."""
        for engine in self._engines:
            engine.drain(0)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The effect of a signal."""
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            os.kill(os.getpid(), sig)
        self.should_exit = True
