"""The answer if a request is refused: a status, and the reason in one line."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from transformer_zoo.errors import UserError, printable
from transformer_zoo.serving.requests import Closed, QueueFull

_STATUSES = {404: "there is no such address", 405: "this address takes another method"}


class Refusal(Exception):
    """Raised by a route; the client gets its status and reason.

    Args:
        status: HTTP status.
        reason: What is wrong, where, and what to do about it.
        field: The field that is wrong.
        code: OpenAI's name of the error.
        retry_after: Seconds after which a new attempt may succeed.
    """

    def __init__(
        self, status: int, reason: str, *, field: str | None = None, code: str | None = None, retry_after: int = 0
    ) -> None:
        super().__init__(reason)
        self.status, self.reason, self.field, self.code = status, reason, field, code
        self.headers = {"Retry-After": str(retry_after)} if retry_after else {}

    def as_json(self, path: str) -> dict[str, Any]:
        """OpenAI's form below /v1/, LibreTranslate's for other paths."""
        reason = printable(self.reason)
        if not path.startswith("/v1/"):
            return {"error": reason}
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        field = None if self.field is None else printable(self.field)
        return {"error": {"message": reason, "type": kind, "param": field, "code": self.code}}

    def response(self, path: str) -> JSONResponse:
        """The answer to a client who asked for this path."""
        return JSONResponse(self.as_json(path), self.status, self.headers)


def as_refusal(error: Exception) -> Refusal:
    """The refusal that corresponds to an error of a user, of the queue or of the router."""
    match error:
        case Refusal():
            return error
        case QueueFull():
            return Refusal(429, str(error), code="queue_full", retry_after=1)
        case Closed():
            return Refusal(503, "the server stops", retry_after=10)
        case UserError():
            return Refusal(422, str(error))
        case HTTPException(status_code=status) | StarletteHTTPException(status_code=status):
            return Refusal(status, _STATUSES.get(status, "this cannot be answered"))
    return Refusal(500, "something went wrong in the server")


async def _answer(request: Request, error: Exception) -> JSONResponse:
    headers: Mapping[str, str] = getattr(error, "headers", None) or {}
    response = as_refusal(error).response(request.url.path)
    response.headers.update(headers)
    return response


def add_refusals(app: FastAPI) -> None:
    """Turn errors into answers, all in one form."""
    for kind in (Refusal, UserError, QueueFull, StarletteHTTPException):
        app.add_exception_handler(kind, _answer)
