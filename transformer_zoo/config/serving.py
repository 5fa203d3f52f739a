"""What a server lets in, and how much of it."""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from transformer_zoo.errors import UserError
from transformer_zoo.words import ABOVE_0, COUNT, outside

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine, as a Host header has them but for brackets."""
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\sA-Z]+")


@dataclass(frozen=True, kw_only=True)
class ServingSettings:
    """Who may ask, and for how much.
    >>> ServingSettings(host="0.0.0.0").is_local, ServingSettings().is_local
    (False, True)

    Args:
        host: Address to serve at: 127.0.0.1 is reached from this machine only, 0.0.0.0 from everywhere.
        keys: File with a secret in each line, of at least 16 letters. Who asks gives one of them: as `Authorization:
            Bearer`, or as LibreTranslate's `api_key`.
        allowed_hosts: Names by which the server is reached, beside localhost and HOST. Others are refused, so that no
            page of another site gets at it by a name that is made to point here. * is any.
        cors: Origins, such as https://example.org, whose pages may ask, beside the server's own. * is any.
        max_body: Most kilobytes of a request.
        max_tokens: Most new tokens of an answer.
        max_answers: Most answers to one request: prompts, times answers to each; texts of a list.
        max_seconds: A request that takes longer is given up.
        grace: Seconds to finish what runs, when the server is told to end.

    Raises:
        UserError: a number out of range, or an origin that no browser would send.
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
                    f"cors {origin!r} is no origin: in small letters and without a path, as https://a.example"
                )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOCAL
