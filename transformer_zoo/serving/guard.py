"""The checks before every route: who is let in and by which name, the headers of every answer, and the log."""

import asyncio
import logging
import time
import traceback
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transformer_zoo.config.serving import LOCAL, ServingSettings
from transformer_zoo.serving.metrics import Metrics
from transformer_zoo.serving.refusals import Refusal, as_refusal

log = logging.getLogger("transformer_zoo.serving")
GONE = 499
"""Status in log and metrics for a client that did not wait; nginx has the same name for it."""
_METHODS = ("GET", "HEAD", "POST", "OPTIONS")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every answer: a page of this server loads nothing from elsewhere, runs no inline script, and is not shown
in a frame."""


class Hosts:
    """The names by which, and the pages for which, the server answers.

    Otherwise a browser would treat a site whose name points to this machine as if it were the server itself. If the
    server listens on all addresses, an IP address is as good as a name, because nobody can make it point elsewhere.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self.names = LOCAL | {settings.host.lower(), *map(str.lower, settings.allowed_hosts)}
        self.numbers, self.origins = settings.host in ("0.0.0.0", "::"), frozenset(settings.cors)

    def refusal(self, headers: Headers) -> Refusal | None:
        """The reason why a request with these headers is not answered; None: it is answered."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not ("*" in self.names or _name(host) in self.names or (self.numbers and _is_number(_name(host)))):
            return Refusal(421, "the server has another name: start it with --allowed-hosts NAME to give it this one")
        if origin is None or origin in self.origins or "*" in self.origins or origin.partition("://")[2] == host:
            return None
        return Refusal(403, "pages of other sites may not ask: start with --cors ORIGIN to let this one")


def _name(host: str) -> str:
    """The host without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_number(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


class Guard:
    """The outermost application: it stops requests that are not allowed, and every request ends with an answer and a
    line.

    A line of the log has client, method, route, status and seconds. It has no query, no text, and no path that is not a
    route. For an error it has the kind and the places in the code, not the message.
    """

    def __init__(self, app: ASGIApp, settings: ServingSettings, metrics: Metrics) -> None:
        self.app, self.hosts, self.metrics = app, Hosts(settings), metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, status = time.perf_counter(), GONE

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status, headers = message["status"], MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            refusal = self.hosts.refusal(Headers(scope=scope)) or await self._failure(scope, receive, send_guarded)
            if refusal and status == GONE:
                await refusal.response(scope["path"])(scope, receive, send_guarded)
        finally:
            self._note(scope, status, time.perf_counter() - begun)

    async def _failure(self, scope: Scope, receive: Receive, send: Send) -> Refusal | None:
        """Let the application answer; returns the answer to give if it did not."""
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:  # the time to finish is over
            return Refusal(503, "the server stops", retry_after=10)
        except Exception as error:
            log.error("%s at %s", type(error).__name__, " < ".join(_places(error)))
            return as_refusal(error)
        return None

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "-")
        self.metrics.count_request(route, status, seconds)
        client, method = (scope.get("client") or ("-",))[0], scope["method"]
        method = method if method in _METHODS else "-"
        log.info("%s %s %s %d %.3f s", client, method, route, status, seconds)


def _places(error: BaseException) -> Iterable[str]:
    frames = reversed(traceback.extract_tb(error.__traceback__)[-6:])
    return (f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
