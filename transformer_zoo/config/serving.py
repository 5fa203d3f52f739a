"""Which requests a server accepts, and how large they may be."""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from transformer_zoo.errors import UserError
from transformer_zoo.words import ABOVE_0, COUNT, outside

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine as in a Host header, without brackets."""
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\sA-Z]+")


@dataclass(frozen=True, kw_only=True)
class ServingSettings:
    """Who may ask, and for how much.
    >>> ServingSettings(host="0.0.0.0").is_local, ServingSettings().is_local
    (False, True)

    Args:
        host: Address to serve at: 127.0.0.1 is reached from this machine only, 0.0.0.0 from everywhere.
        keys: File with a secret of at least 16 letters in each line. A request must carry one of them, as
            `Authorization: Bearer` or as LibreTranslate's `api_key`.
        allowed_hosts: Names by which the server is reached, in addition to localhost and HOST. Others are refused, so
            that a page of another site cannot reach the server through a name that points here. * allows any name.
        cors: Origins, such as https://example.org, whose pages may ask, in addition to the server's own. * is any.
        max_body: Number of kilobytes of a request, at most.
        max_tokens: Number of new tokens of an answer, at most.
        max_answers: Number of answers to one request, at most: prompts times answers to each, or texts of a list.
        max_seconds: A request that takes longer is stopped.
        grace: Seconds to finish running requests when the server is told to end.

    Raises:
        UserError: a number is out of range, or an origin is one that no browser would send.
    """

    host: str = "127.0.0.1"
    keys: Path | None = None
    allowed_hosts: list[str] = field(default_factory=list)
    cors: list[str] = field(default_factory=list)
    max_body: int = 1024
    max_tokens: int = 4096
    max_answers: int = 32
    max_seconds: float = 300.0
    grace: int = 30

    def __post_init__(self) -> None:
        for one in fields(self):
            value, limits = getattr(self, one.name), ABOVE_0 if one.type is float else COUNT
            if isinstance(value, int | float) and (wrong := outside(value, limits)):
                raise UserError(f"{one.name} is {value}, {wrong}")
        for origin in self.cors:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise UserError(
                    f"cors {origin!r} is not an origin: take small letters and no path, as https://a.example"
                )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOCAL
